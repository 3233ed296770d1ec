"""Which test images are certified where not all are."""

import numpy as np

from mithridate.errors import InputError
from mithridate.streams import Stream


def certified_points(labels: np.ndarray, target: int, points: int, other_points: int, seed: int) -> np.ndarray:
    """Positions in the test set, int64: `points` of the target class and `other_points` of the others, all where there
    are fewer, drawn at random from the seed. More points include fewer. Raises InputError for a class without images.
    """
    order = Stream("smoothing points", seed).permutations(1, len(labels))[0]
    ours = order[labels[order] == target][:points]
    if not len(ours):
        raise InputError(f"smoothing.target: no test image is of class {target}; choose a class from the data set.")
    return np.concatenate([ours, order[labels[order] != target][:other_points]])
