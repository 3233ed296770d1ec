"""How like its original an adversarial image is: maximum and Euclidean norm of the change, and SSIM."""

import numpy as np
import pandas as pd

from mithridate.data.checks import pieces, shape_text
from mithridate.errors import InputError

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03  # pixels, pixels, and the constants of Wang et al.


def similarity(images: np.ndarray, others: np.ndarray) -> pd.DataFrame:
    """Columns linf, l2 and ssim, one row per pair of images float32 [n,C,H,W] in [0, 1]; means over rows are what is
    reported. linf and l2 are over all pixels and channels of an image. Raises InputError for sets that do not fit."""
    if images.shape != others.shape or images.ndim != 4 or not images.size:
        raise InputError(
            f"images are {shape_text(images.shape)} and those to compare {shape_text(others.shape)}: give one of each,"
            " [n,C,H,W] of one size."
        )
    parts = []
    for rows in pieces(images, 8):
        x, y = images[rows].astype(np.float64), others[rows].astype(np.float64)
        change = (y - x).reshape(len(x), -1)
        columns = {"linf": np.abs(change).max(1), "l2": np.linalg.norm(change, axis=1), "ssim": ssim(x, y)}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def ssim(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Structural similarity float64 [n] of images [n,C,H,W] with values in [0, 1].

    Wang, Bovik, Sheikh & Simoncelli, IEEE TIP 2004, eq. 13: means, variances and covariance under a Gaussian window of
    11 x 11 pixels and σ = 1.5 (of smaller images: the largest odd window), at every place where it lies within the
    image; averaged over places and channels.
    """
    size = min(WINDOW, *(side - 1 + side % 2 for side in x.shape[2:]))
    weights = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * SIGMA**2))
    down, across = (_banded(weights / weights.sum(), side) for side in x.shape[2:])

    def mean(values: np.ndarray) -> np.ndarray:
        return np.einsum("ih,nchw,wj->ncij", down, values, across.T, optimize=True)

    mean_x, mean_y = mean(x), mean(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance, variances = mean(x * y) - product, mean(x * x + y * y) - squares
    c1, c2 = K1**2, K2**2
    places = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    return places.mean((1, 2, 3))


def _banded(weights: np.ndarray, side: int) -> np.ndarray:
    """The matrix [side − len(weights) + 1, side] whose rows hold the weights, one place further each."""
    matrix = np.zeros((side - len(weights) + 1, side))
    for row in range(len(matrix)):
        matrix[row, row : row + len(weights)] = weights
    return matrix
