"""What one member of a family is shown."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mithridate.data.partition import Subsets


class Images(Protocol):
    """Images that are read or made when they are needed: np.asarray(images) does it."""

    def __array__(self, dtype: None = None, copy: bool | None = None) -> np.ndarray: ...


@dataclass(frozen=True)
class Subset:
    """A member's number, its images [n,C,H,W] and labels [n] in training order, and the channel mean and standard
    deviation [C] that normalise them. Images are stored values in uint8 or, made definite beforehand, float32."""

    number: int
    images: np.ndarray | Images
    labels: np.ndarray
    mean: np.ndarray
    std: np.ndarray


def members_of(numbers: Iterable[int], subsets: Subsets, images: np.ndarray, labels: np.ndarray) -> list[Subset]:
    """The subsets of these numbers, each in content order, of training images [n,C,H,W] with labels [n]."""
    return [
        Subset(int(n), Rows(images, rows), labels[rows], subsets.mean[n], subsets.std[n])
        for n in numbers
        for rows in [subsets.indices[n]]
    ]


@dataclass(frozen=True)
class Rows:
    """Some rows of a larger, memory-mapped array, read when a tile needs them."""

    images: np.ndarray
    rows: np.ndarray

    def __array__(self, dtype: None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.images[self.rows])
