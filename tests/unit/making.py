"""What several tests make in the same way."""

import numpy as np

from mithridate.data.partition import Subsets


def subsets(sizes: list[int] | np.ndarray) -> Subsets:
    """Disjoint subsets of these sizes, of which only the sizes matter."""
    ends, k = np.cumsum(sizes), len(sizes)
    none, indices = np.zeros((k, 1)), np.split(np.arange(ends[-1]), ends[:-1])
    return Subsets(np.repeat(np.arange(k), sizes), indices, none, none, np.zeros(1, np.int64), k, 1, "pixel_sum", "a")
