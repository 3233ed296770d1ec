"""A brute-force adversary against the Run-off Election, written anew from the definitions.

The adversary replaces the whole preference order of classifiers. Under the tie rule every row of scores is a strict
order, so that permutations of the classes are all there is to replace it by. A state (first votes, pairwise votes) is
packed into one integer, four bits a number, so that sums of states are sums of integers; at most 15 classifiers.
"""

from functools import cache
from itertools import combinations, permutations

import numpy as np


@cache
def orders(classes: int) -> np.ndarray:
    """Every preference order as a packed state: first votes in the lowest numbers, then the pairs a<b."""
    pairs = list(combinations(range(classes), 2))
    states = []
    for order in permutations(range(classes)):
        rank = {c: order.index(c) for c in order}
        state = 1 << 4 * order[0]
        for position, (a, b) in enumerate(pairs):
            state += int(rank[a] < rank[b]) << 4 * (classes + position)
        states.append(state)
    return np.array(states, np.int64)


@cache
def additions(classes: int, r: int) -> np.ndarray:
    """Every sum of r preference orders."""
    if r == 0:
        return np.zeros(1, np.int64)
    return np.unique(np.add.outer(additions(classes, r - 1), orders(classes)))


def elect(states: np.ndarray, classes: int, k: int) -> np.ndarray:
    """The winner of packed states, written anew from the definition."""
    fields = (states[:, None] >> 4 * np.arange(classes + classes * (classes - 1) // 2)) & 15
    first, pairs = fields[:, :classes], fields[:, classes:]
    ranked = np.argsort(-first, axis=1, kind="stable")[:, :2]
    low, high = ranked.min(1), ranked.max(1)
    position = np.zeros((classes, classes), int)
    for number, (a, b) in enumerate(combinations(range(classes), 2)):
        position[a, b] = number
    for_low = pairs[np.arange(len(states)), position[low, high]]
    return np.where(2 * for_low >= k, low, high)


def can_change(profile: np.ndarray, classes: int, r: int) -> bool:
    """Whether some r classifiers of `profile` (packed orders) can be replaced so that the winner changes."""
    k = len(profile)
    own = elect(profile.sum(keepdims=True), classes, k)[0]
    kept = {int(profile[list(rest)].sum()) for rest in combinations(range(k), k - r)}
    return any((elect(state + additions(classes, r), classes, k) != own).any() for state in kept)


def pack(scores: np.ndarray) -> np.ndarray:
    """Packed orders of one test point's scores [k, classes], ties to the smaller class."""
    classes = scores.shape[1]
    index = dict(zip(permutations(range(classes)), orders(classes), strict=True))
    return np.array([index[tuple(np.argsort(-row, kind="stable").tolist())] for row in scores], np.int64)


def can_change_with(profile: np.ndarray, classes: int, touched: np.ndarray) -> bool:
    """Whether the winner changes for some orders of the touched classifiers (bool [k])."""
    k = len(profile)
    own = elect(profile.sum(keepdims=True), classes, k)[0]
    kept = profile[~touched].sum()
    return bool((elect(kept + additions(classes, int(touched.sum())), classes, k) != own).any())


def reach(buckets: tuple[int, ...], shifts: list[int], m: int) -> np.ndarray:
    """The classifiers, bool [m], that an attacker of these buckets owns."""
    touched = np.zeros(m, bool)
    for bucket in buckets:
        touched[[(bucket + shift) % m for shift in shifts]] = True
    return touched
