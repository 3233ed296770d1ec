"""One attack against several test points at once: the integer programme of the collective certificate.

An attack hits exactly r of k partitions (fewer are never better) and then owns their classifiers. A test point
predicted c goes over to class x when, among the hit classifiers, those that voted c outnumber those that voted x
by at least `need` = Δ + 1 − r, Δ = n_c − n_x − 1[x<c]; because each hit moves the gap between the two classes by
1 + 1[f=c] − 1[f=x] (Chen et al., ICML 2022). Whatever is hit, that surplus is at least `least`.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mithridate.certify.aggregation import at, votes_to_overtake
from mithridate.certify.buckets import blocks_of_rows

ROUNDS = 30  # of the search for an attack that flips every point
NODES_FOR = 50  # partitions
TOLERANCE = 1e-4  # by how much the solver's floating-point bound may fall short of the integer that it stands for


@dataclass(frozen=True)
class Targets:
    """What flips each of p test points; a pair is a point and a class it can be flipped to.

    Points that every attack flips are in `always` and have no pairs.
    """

    hits: int  # r
    always: np.ndarray  # bool [p]
    of: np.ndarray  # int [pairs], the point, ascending
    gains: np.ndarray  # int8 [pairs, k], 1 where the classifier voted c, −1 where x, else 0
    need: np.ndarray  # int [pairs], surplus at which the point flips
    least: np.ndarray  # int [pairs], surplus of the attack that does least
    voters: np.ndarray  # int [pairs], n_x

    def first_pairs(self) -> np.ndarray:
        """Where each point's pairs begin."""
        return np.flatnonzero(np.diff(self.of, prepend=-1))


def find_targets(votes: np.ndarray, counts: np.ndarray, prediction: np.ndarray, hits: int) -> Targets:
    """The targets of an attack on `hits` of the k partitions; votes [p, k], counts [p, classes], prediction [p]."""
    k, classes = votes.shape[1], counts.shape[1]
    own = at(counts, prediction)[:, None]
    need = votes_to_overtake(counts, prediction) - hits
    least = np.maximum(0, hits - (k - own)) - np.minimum(hits, counts)
    rival = np.arange(classes) != prediction[:, None]
    always = (rival & (least >= need)).any(1)
    of, to = np.nonzero(rival & (most_surplus(counts, prediction, k, hits) >= need) & ~always[:, None])
    gains = (votes[of] == prediction[of, None]).astype(np.int8) - (votes[of] == to[:, None])
    return Targets(hits, always, of, gains, need[of, to], least[of, to], counts[of, to])


def most_surplus(counts: np.ndarray, prediction: np.ndarray, k: int, hits: int) -> np.ndarray:
    """By how much c's voters can outnumber x's among the hit classifiers, int [p, classes]."""
    return np.minimum(hits, at(counts, prediction)[:, None]) - np.maximum(0, hits - (k - counts))


def hardest_first(counts: np.ndarray, prediction: np.ndarray, k: int, hits: int) -> np.ndarray:
    """The order [p] of points by how little surplus they can have to spare; of equal ones as they stand."""
    need = votes_to_overtake(counts, prediction) - hits
    spare = most_surplus(counts, prediction, k, hits) - need
    np.put_along_axis(spare, prediction[:, None], -k, axis=1)
    return np.argsort(spare.max(1), kind="stable")


def try_all_attacks(targets: Targets) -> int:
    """The most points that one attack flips, by trying every choice of r partitions."""
    always, first = int(targets.always.sum()), targets.first_pairs()
    if not len(first):
        return always
    attacks = np.array(list(combinations(range(targets.gains.shape[1]), targets.hits)))
    best = 0
    for rows in blocks_of_rows(len(attacks), targets.gains[:, : targets.hits].size):
        surplus = targets.gains[:, attacks[rows]].sum(2, dtype=np.int64)
        flipped = np.logical_or.reduceat(surplus >= targets.need[:, None], first)
        best = max(best, int(flipped.sum(0).max()))
    return best + always


def search_attack(targets: Targets) -> int:
    """How many points one attack flips, by a deterministic search; stops early when it flips them all.

    Hits the partitions with the largest weighted gains, and gives the points that it missed more weight.
    """
    always, first = int(targets.always.sum()), targets.first_pairs()
    if not len(first):
        return always
    pairs = np.diff(first, append=len(targets.of))
    easiest = np.repeat(np.minimum.reduceat(targets.need, first), pairs)
    weight, best = (targets.need == easiest).astype(np.float64), 0
    for _ in range(ROUNDS):
        hit = np.argsort(-(weight @ targets.gains), kind="stable")[: targets.hits]
        surplus = targets.gains[:, hit].sum(1, dtype=np.int64)
        flipped = np.logical_or.reduceat(surplus >= targets.need, first)
        best = max(best, int(flipped.sum()))
        if best == len(first):
            break
        weight[np.repeat(~flipped, pairs)] *= 1.5
    return best + always


def rises(targets: Targets) -> np.ndarray:
    """By how much the surplus of each pair exceeds `least` once a pair of its point flips it; int [pairs, pairs].

    By the pair itself: need − least. By another class x' of the same point: at least max(0, need') voters of c
    are hit, and among the other hits are at most n_x voters of x. 0 between different points.
    """
    hit = np.maximum(0, targets.need)
    beside = hit - np.minimum(targets.voters[:, None], targets.hits - hit)
    rise = np.maximum(0, beside - targets.least[:, None])
    rise[targets.of[:, None] != targets.of] = 0
    np.fill_diagonal(rise, targets.need - targets.least)
    return rise


def solve(targets: Targets, nodes: int, seconds: float) -> tuple[int, bool]:
    """An upper bound on how many points one attack flips, and whether the solver stopped at a limit.

    nodes: limit of the branch and bound for up to NODES_FOR partitions, proportionally fewer for more of them,
    because a node costs in proportion. The solver is HiGHS through scipy.optimize.milp. Its upper bound counts,
    never the best attack that it found; where it has no bound, all points are flipped.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp  # slow to import, and rarely needed

    # Partitions that do the same to every point differ in number only.
    gains, size = np.unique(targets.gains, axis=1, return_counts=True)
    columns, pairs, always = len(size), len(targets.of), int(targets.always.sum())
    # u = 1 for a pair that flips its point: the surplus is at least `need`; of all pairs it is at least `least`.
    rows = [np.repeat([1.0, 0.0], [columns, pairs]), *np.hstack([gains, -rises(targets)])]
    low, high = [targets.hits, *targets.least], [targets.hits, *[np.inf] * pairs]
    for point in np.unique(targets.of):
        rows.append(np.concatenate([np.zeros(columns), targets.of == point]))
        low.append(-np.inf)
        high.append(1)
    nodes = max(1, nodes * NODES_FOR // max(NODES_FOR, columns))
    with silent_output():
        result = milp(
            np.repeat([0.0, -1.0], [columns, pairs]),
            integrality=np.ones(columns + pairs),
            bounds=Bounds(0, np.concatenate([size, np.ones(pairs)])),
            constraints=LinearConstraint(np.array(rows), low, high),
            options={"node_limit": nodes, "time_limit": seconds, "mip_rel_gap": 0},
        )
    # Nothing is flipped where all u are 0, so that "infeasible" and "unbounded" are a failure of the solver.
    bound = None if result.status in (2, 3) else result.mip_dual_bound
    if bound is None or not np.isfinite(bound):
        return len(targets.always), True
    return min(len(targets.always), always + int(np.floor(-bound + TOLERANCE))), result.status != 0


@contextmanager
def silent_output() -> Iterator[None]:
    """Drops what a library writes to the process's standard output: HiGHS 1.12 (in SciPy 1.17) forgot a line of its
    debugging there, past every option that silences it."""
    try:
        kept = os.dup(1)
    except OSError:  # there is no standard output
        yield
        return
    flush = ctypes.CDLL(None).fflush
    flush(None)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        flush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
