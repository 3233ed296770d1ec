"""The collective certificate: how many of a whole test set one attack can change at once.

Source: Chen et al., "On Collective Robustness of Bagging Against Data Poisoning", ICML 2022. A point-wise radius
lets the attacker choose other partitions for every test point; here one set of r partitions has to serve for all
of them (see joint_attack). The statement is a joint worst case over this very test set, and deterministic: no
confidence interval belongs to it.
"""

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numpy as np

from mithridate.certify.aggregation import certify_dpa, count_votes
from mithridate.certify.joint_attack import find_targets, hardest_first, search_attack, solve, try_all_attacks
from mithridate.certify.scores_check import check_labels, check_votes
from mithridate.errors import InputError

CHUNK, NODES, SECONDS = 16, 1000, 60.0
SMALLEST = 4  # points that are not halved further
FEW = 20_000  # so many choices of partitions are tried one by one, for all test points at once


class Collective(NamedTuple):
    """What is certified for one attack size."""

    radius: int
    accuracy: float  # (right predictions − flips) / n_test
    flips: int  # upper bound on how many right predictions one attack changes
    chunks: int  # groups of test points that were bounded by themselves
    limited: int  # of these, where the solver stopped at a limit, so that the bound is looser than it could be
    n_test: int


def certify_collective(
    votes: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    radius: int,
    *,
    chunk: int = CHUNK,
    nodes: int = NODES,
    seconds: float = SECONDS,
) -> float:
    """Collective certified accuracy: at least this fraction of these test points stays right, whichever `radius`
    training samples in total are inserted or deleted. Arguments and errors as in `collective`."""
    return collective(votes, labels, num_classes, [radius], chunk=chunk, nodes=nodes, seconds=seconds)[0].accuracy


def collective(
    votes: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    radii: Sequence[int],
    *,
    chunk: int = CHUNK,
    nodes: int = NODES,
    seconds: float = SECONDS,
) -> list[Collective]:
    """The collective certificate of the plurality vote for each attack size of `radii`, in their order.

    votes [n, k] in 0..num_classes-1 of base classifiers on *disjoint* subsets (DPA: one sample touches one of
    them), labels [n]. Only points that are predicted right, and whose own radius is smaller than the attack,
    can be lost. Where there are few choices of partitions (FEW), all are tried, and the result is exact. Else the
    points are sorted, hardest to flip first, and bounded in chunks of `chunk` points; a sum over chunks is sound,
    because it lets the attacker choose anew for each, and exact where one chunk holds all points and no limit is
    hit. Never below the point-wise certified accuracy. A bound for a larger radius holds for the smaller ones
    too, and is used there where it is the better one.

    nodes: branch-and-bound nodes of the solver (HiGHS) for a chunk, and for its halves, quarters, … before it; for
    up to 50 partitions, proportionally fewer for more. It is the limit that is meant to be hit, because then
    results do not depend on the machine's speed; seconds: time limit in the same places, for a machine that
    stalls. Where a limit is hit the solver's upper bound counts, or that of the parts where it is better. Raises
    InputError for votes or labels out of range, no radius or a negative one, limits that are not positive.
    """
    check_votes(votes, num_classes)
    check_labels(labels, len(votes), num_classes, start_index=0, where="the table of votes")
    if np.asarray(radii).dtype.kind not in "iu" or min(radii) < 0 or chunk < 1 or nodes < 1 or not seconds > 0:
        raise InputError(
            f"radii {list(radii)}, chunk {chunk}, nodes {nodes}, seconds {seconds}: give whole radii of 0 or "
            "more, at least one, and limits above 0."
        )
    counts = count_votes(votes, num_classes)
    prediction, own_radius = certify_dpa(counts)
    right = prediction == labels
    found: dict[int, Collective] = {}
    fewest = len(votes)
    for radius in sorted(set(radii), reverse=True):
        hits = min(radius, votes.shape[1])
        points = np.flatnonzero(right & (own_radius < radius))
        points = points[hardest_first(counts[points], prediction[points], votes.shape[1], hits)]
        if comb(votes.shape[1], hits) <= FEW:
            targets = find_targets(votes[points], counts[points], prediction[points], hits)
            bounds = [(try_all_attacks(targets), False)] if len(points) else []
        else:
            parts = [points[start : start + chunk] for start in range(0, len(points), chunk)]
            bounds = [bound_flips(votes[p], counts[p], prediction[p], hits, nodes, seconds) for p in parts]
        fewest = min(fewest, sum(bound for bound, _ in bounds))
        accuracy = (int(right.sum()) - fewest) / len(votes)
        limited = sum(stopped for _, stopped in bounds)
        found[radius] = Collective(radius, accuracy, fewest, len(bounds), limited, len(votes))
    return [found[radius] for radius in radii]


def bound_flips(
    votes: np.ndarray, counts: np.ndarray, prediction: np.ndarray, hits: int, nodes: int, seconds: float
) -> tuple[int, bool]:
    """An upper bound on how many of these points one attack on `hits` partitions flips, and whether the solver
    stopped at a limit; votes [p, k], counts [p, classes], prediction [p].

    The points are bounded in halves first: where a half is too much for the solver the whole would be, and
    where an attack reaches the sum there is nothing left to solve.
    """
    targets = find_targets(votes, counts, prediction, hits)
    found, most, stopped = search_attack(targets), len(votes), False
    if len(votes) > SMALLEST and found < most:
        parts = slice(most // 2), slice(most // 2, None)
        halves = [bound_flips(votes[p], counts[p], prediction[p], hits, nodes, seconds) for p in parts]
        most, stopped = sum(bound for bound, _ in halves), any(limit for _, limit in halves)
    if found < most and not stopped:
        bound, stopped = solve(targets, nodes, seconds)
        most = max(found, min(most, bound))
    return most, stopped
