"""`mithridate verify`: the certificates' premise, checked on a finished run.

A few members are trained again from a copy of the training set in another order; their weights must be the same.
"""

import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from mithridate import device
from mithridate.data.dataset import load_header, load_images, load_labels, load_sums
from mithridate.data.partition import load_subsets, subset_of
from mithridate.errors import InputError
from mithridate.options.training import TrainingOptions
from mithridate.progress import Progress
from mithridate.streams import Stream
from mithridate.training.family import train_family, weight_hash
from mithridate.training.recipe import Recipe
from mithridate.training.slices import read_slice
