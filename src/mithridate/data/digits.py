"""scikit-learn's handwritten digits (UCI "Optical Recognition of Handwritten Digits", its test part): 1797
images of 8 x 8 pixels with values 0 to 16, which ship inside scikit-learn.

The first floor(4/5 · 1797) = 1437 images are the training set, the last 360 the test set (other writers,
mostly). Pixels are kept as shipped and not stretched to 0..255: multiples of 16 would leave half of 50
partitions empty.
"""

import numpy as np
from sklearn.datasets import load_digits

from mithridate.data.checks import class_numbers, image_sums
from mithridate.data.dataset import Dataset

SCALE = 1 / 16
ENLARGE, BORDER = 3, 2  # 8 -> 24 -> 28


def digits() -> Dataset:
    """Images uint8 [N,1,8,8], values 0 to 16."""
    bunch = load_digits()
    x, y = bunch.images.astype(np.uint8)[:, None], bunch.target.astype(np.int64)
    n = 4 * len(y) // 5
    return Dataset(
        x_train=x[:n],
        y_train=y[:n],
        x_test=x[n:],
        y_test=y[n:],
        pixel_sum=None,
        scale=SCALE,
        name="digits",
        source="scikit-learn load_digits, the last fifth as test set",
        class_names=class_numbers(y),
    )


def digits28() -> Dataset:
    """The same with every pixel three times as wide and high and a border of two zeros: MNIST's 28 x 28.

    The sum of an enlarged image is nine times its original's, so that for k divisible by 3 at most a third of
    the partitions could be reached: as for all resized data, the hash is that of the original image
    (pixel_sum).
    """
    small = digits()
    return Dataset(
        x_train=_enlarge(small.x_train),
        y_train=small.y_train,
        x_test=_enlarge(small.x_test),
        y_test=small.y_test,
        pixel_sum=image_sums(small.x_train),
        scale=SCALE,
        name="digits28",
        source=f"{small.source}, 28 x 28 (pixels tripled, border 2); pixel_sum of 8 x 8",
        class_names=small.class_names,
    )


def _enlarge(images: np.ndarray) -> np.ndarray:
    tripled = images.repeat(ENLARGE, axis=2).repeat(ENLARGE, axis=3)
    return np.pad(tripled, ((0, 0), (0, 0), (BORDER, BORDER), (BORDER, BORDER)))
