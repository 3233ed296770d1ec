"""Run-off Election (ROE): a two-round vote over the same score matrix, and its certificate.

Source: Rezaei, Banihashem, Chegini & Feizi, "Run-Off Election: Improved Provable Defense against Data
Poisoning Attacks", ICML 2023 (DPA+ROE; CertR1, CertR2, Certv1 and Certv2 are its names). ROE is a classifier
of its own: its certificate speaks about its own prediction and must not be mixed with DPA's image by image.

Everywhere one antisymmetric rule: a classifier prefers class a to b if s_a > s_b, or s_a = s_b and a < b.
"""

from typing import NamedTuple

import numpy as np

from mithridate.certify.aggregation import at, vote_counts

INFINITE = np.iinfo(np.int64).max
"""R1 of two classes: both are always in the second round."""

CELLS = 2**18  # scores compared at a time: keeps the work in the cache


class Election(NamedTuple):
    """The outcome of both rounds for n test points and k classifiers."""

    counts: np.ndarray  # int [n, classes], votes in round 1
    winner: np.ndarray  # int [n], the prediction c
    finalist: np.ndarray  # int [n], s, who lost round 2
    preferred: np.ndarray  # int [n, classes], v(c>c'): classifiers preferring the winner; 0 at itself


def certify_runoff(scores: np.ndarray, counts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """ROE's prediction and certificate for scores [n, k, classes], finite.

    prediction [n]; radius [n] int64, >= 0, whether or not the prediction is right: no insertion or deletion
    of up to `radius` training samples in total changes the prediction, because each touches one base
    classifier. radius = min(R1, R2) − 1, never infinite, because R2 <= (k + 2) / 2. It is sound, and exact
    where R1 <= R2; R2 can fall short of what an adversary needs (see second_round). `counts` are the vote
    counts of these scores where they are known already. Raises InputError where there are fewer than two
    classes.
    """
    election = hold_election(scores, counts)
    radius = np.minimum(first_round(election), second_round(election, scores.shape[1])) - 1
    return election.winner, radius


def hold_election(scores: np.ndarray, counts: np.ndarray | None = None) -> Election:
    """Round 1 takes the two classes with most votes (of equal ones the smaller); of these, round 2 takes the
    one that more classifiers prefer (at a tie the smaller). Arguments and errors as in `certify_runoff`."""
    if counts is None:
        counts = vote_counts(scores)
    n, k, classes = scores.shape
    first = counts.argmax(1)
    rest = counts.copy()
    np.put_along_axis(rest, first[:, None], -1, axis=1)
    second = rest.argmax(1)
    preferred = np.empty((n, classes), np.int64)
    winner = np.empty(n, np.int64)
    step = max(1, CELLS // (k * classes))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        block, a, b = scores[rows], first[rows], second[rows]
        for_first, for_second = of_class(block, a), of_class(block, b)
        votes = np.where((a < b)[:, None], for_first >= for_second, for_first > for_second).sum(1)
        first_wins = np.where(a < b, 2 * votes >= k, 2 * votes > k)
        winner[rows] = np.where(first_wins, a, b)
        own = np.where(first_wins[:, None], for_first, for_second)[:, :, None]
        larger = np.arange(classes) > winner[rows, None]
        preferred[rows] = np.where(larger, (own >= block).sum(1), (own > block).sum(1))
    return Election(counts, winner, np.where(winner == first, second, first), preferred)


def of_class(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Every classifier's score of one class per test point: [n, k] from [n, k, classes] and classes [n]."""
    return scores[np.arange(len(scores)), :, classes]


def first_round(election: Election) -> np.ndarray:
    """R1 [n]: the least number of changed classifiers after which two other classes have overtaken the
    winner, so that it misses round 2 (CertR1); INFINITE for two classes."""
    counts, winner = election.counts, election.winner
    n, classes = counts.shape
    if classes < 3:
        return np.full(n, INFINITE)
    gaps = at(counts, winner)[:, None] - counts + (np.arange(classes) > winner[:, None])
    np.put_along_axis(gaps, winner[:, None], INFINITE, axis=1)
    # overtake_both grows with either gap, so the best pair is that of the two smallest gaps.
    smallest = np.partition(gaps.clip(min=0), 1, axis=1)
    return overtake_both(smallest[:, 0], smallest[:, 1])


def overtake_both(gap_1: np.ndarray, gap_2: np.ndarray) -> np.ndarray:
    """Least number of changed votes that closes both gaps (>= 0): a vote taken from the winner for one rival
    lowers that rival's gap by 2 and the other's by 1 (Certv2). Closed form of the paper's dynamic
    programme."""
    return np.maximum(np.maximum(-(-gap_1 // 2), -(-gap_2 // 2)), -(-(gap_1 + gap_2) // 3))


def second_round(election: Election, k: int) -> np.ndarray:
    """R2 [n]: at least so many classifiers must change until some class has reached round 2 in place of the
    other finalist and beats the winner there (CertR2). Finite, at most (k + 2) / 2.

    As published, the larger of what either takes by itself; no one set of that many changes may serve both,
    as with four classifiers that prefer 1 > 2 > 0 and two that prefer 2 > 0 > 1, where it takes one more.
    """
    counts, winner, finalist, preferred = election
    classes = np.arange(counts.shape[1])
    to_enter = at(counts, finalist)[:, None] - counts + (classes > finalist[:, None])
    to_win = 2 * preferred - k + (classes > winner[:, None])
    attack = np.maximum(-(-to_enter.clip(min=0) // 2), -(-to_win.clip(min=0) // 2))
    np.put_along_axis(attack, winner[:, None], INFINITE, axis=1)
    return attack.min(1)
