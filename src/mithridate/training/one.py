"""A single network out of the family trainer."""

from pathlib import Path

import numpy as np

from mithridate.errors import InputError
from mithridate.progress import Progress
from mithridate.training.family import train_family
from mithridate.training.flags import FITTED, FLAGS
from mithridate.training.recipe import Recipe
from mithridate.training.subset import Subset


def train_one(
    images: np.ndarray,
    labels: np.ndarray,
    number: int,
    recipe: Recipe,
    *,
    key: str,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Parameters by name of member `number`, trained on all of these images [n,C,H,W] with labels int64 [n], which it
    sees in [0, 1]. key: the block of options that messages name. Raises InputError where it cannot be trained."""
    channels = recipe.shape[0]
    member = Subset(number, images, labels, np.zeros(channels), np.ones(channels))
    family = train_family([member], recipe, checkpoints=checkpoints, progress=progress)
    if (flag := family.flags[0]) != FITTED:
        raise InputError(
            f"{key}.training: a network of {recipe.model} is {FLAGS[flag]}: choose another {key}.model, or lower"
            f" learning_rate (now {recipe.options.learning_rate:g})."
        )
    return family.member(0)
