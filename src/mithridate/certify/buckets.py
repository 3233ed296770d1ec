"""Finite Aggregation's overlapping subsets: what a bucket reaches, and how many buckets an attack needs.

Source: Wang, Levine & Feizi, "Improved Certified Defenses against Data Poisoning with (Deterministic) Finite
Aggregation", ICML 2022. The m = k·d buckets partition the samples; bucket h goes into the subsets (h + s) mod m
for each of the d shifts s, and base classifier i is trained on subset i. So a sample touches one bucket, and a
bucket the d classifiers (h + s) mod m. With d = 1 and the shift 0 this is Deep Partition Aggregation.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from mithridate.errors import InputError, short

INFINITE = np.iinfo(np.int64).max
"""The number of buckets of an attack that no number of buckets makes."""

CELLS = 2**17  # bytes of votes handled at a time: keeps the work in the cache


def check_shifts(shifts: Sequence[int] | np.ndarray, m: int) -> list[int]:
    """The shifts as a list. Raises InputError unless they are distinct integers in 0..m-1, at least one."""
    given = np.asarray(shifts)
    if given.ndim != 1 or given.size == 0 or given.dtype.kind not in "iu":
        raise InputError(
            f"the shifts are {short(shifts)}, but a list of integers is needed: take them from subsets.h5."
        )
    if given.min() < 0 or given.max() >= m or len(np.unique(given)) != len(given):
        raise InputError(
            f"the shifts {short(given.tolist())} are not distinct numbers in 0..{m - 1} for {m} classifiers: "
            "take shifts and scores from the same family."
        )
    return [int(shift) for shift in given]


def blocks_of_rows(n: int, cells: int) -> Iterator[slice]:
    """Slices that cut n test points, of `cells` cells each, into blocks that fit the cache."""
    step = max(1, CELLS // cells)
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def reached(chosen: np.ndarray, shifts: Sequence[int]) -> np.ndarray:
    """How many of the classifiers that each bucket reaches are chosen: [..., m] from bool [..., m].

    Entry h is Σ_s chosen[(h + s) mod m], an unsigned type with room for 3·d.
    """
    m = chosen.shape[-1]
    marks = chosen.view(np.uint8)
    sums = np.zeros(chosen.shape, np.min_scalar_type(3 * len(shifts)))
    for shift in shifts:
        sums[..., : m - shift] += marks[..., shift:]
        sums[..., m - shift :] += marks[..., :shift]
    return sums


def votes_reached(votes: np.ndarray, shifts: Sequence[int], num_classes: int) -> np.ndarray:
    """How many of the classifiers that a bucket reaches vote for a class: [num_classes, n, m] from votes [n, m]."""
    classes = np.arange(num_classes, dtype=votes.dtype)
    return reached(votes == classes[:, None, None], shifts)


def buckets_needed(weights: np.ndarray, most: int, target: np.ndarray) -> np.ndarray:
    """Least number of buckets whose weights add up to at least the target; int64 [n].

    weights: unsigned integers 0..most [n, m], one per bucket; target: integers [n]. 0 where the target is not
    positive, INFINITE where all buckets together fall short. Buckets are counted by weight, not sorted: the
    heaviest are taken first, and the last weight level is taken in part.
    """
    n, bins = len(weights), most + 1
    cells = weights + (np.arange(n) * bins)[:, None]
    sizes = np.arange(most, -1, -1)
    number = np.bincount(cells.ravel(), minlength=n * bins).reshape(n, bins)[:, ::-1]
    buckets, total = number.cumsum(1), (number * sizes).cumsum(1)
    level = (total >= target[:, None]).argmax(1)
    at_level = np.arange(n), level
    # Buckets of this level that can be spared. At weight 0 the target was not positive or is out of reach.
    spare = (total[at_level] - target) // np.maximum(sizes[level], 1)
    needed = np.where(total[:, -1] < target, INFINITE, buckets[at_level] - spare)
    return np.where(target <= 0, 0, needed)


def buckets_to_overtake(sums: np.ndarray, d: int, leader: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Least number of buckets after which each class may have overtaken a leading class; int64 [n, classes].

    sums [classes, n, m] are of `votes_reached`; leader [n] a class; gaps [n, classes] the votes by which each
    class must gain on it. A classifier that is changed at will gains at most 1 + 1[it votes for the leader] −
    1[it votes for the other class]. Lower bounds: two buckets that reach the same classifier count it twice.
    INFINITE for the leader itself.
    """
    own = sums[leader, np.arange(len(leader))] + sums.dtype.type(d)
    needed = np.stack([buckets_needed(own - rival, 2 * d, gap) for rival, gap in zip(sums, gaps.T, strict=True)], 1)
    np.put_along_axis(needed, leader[:, None], INFINITE, axis=1)
    return needed
