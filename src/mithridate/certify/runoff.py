"""Run-off Election (ROE): a two-round vote over the same score matrix, and its certificates.

Source: Rezaei, Banihashem, Chegini & Feizi, "Run-Off Election: Improved Provable Defense against Data
Poisoning Attacks", ICML 2023 (DPA+ROE and FA+ROE; CertR1, CertR2, Certv1 and Certv2 are its names). ROE is a
classifier of its own: its certificate speaks about its own prediction and must not be mixed with DPA's image by
image.

Everywhere one antisymmetric rule: a classifier prefers class a to b if s_a > s_b, or s_a = s_b and a < b.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mithridate.certify.aggregation import at, count_votes, vote_counts, votes_to_overtake
from mithridate.certify.aggregation import votes as votes_of
from mithridate.certify.buckets import (
    INFINITE,  # R1 of two classes: both are always in the second round
    blocks_of_rows,
    buckets_needed,
    buckets_to_overtake,
    check_shifts,
    reached,
    votes_reached,
)

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
    gaps = votes_to_overtake(counts, winner)
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
    counts, winner, finalist, _ = election
    to_enter, to_win = votes_to_overtake(counts, finalist), doubled_lead(election, k)
    attack = np.maximum(-(-to_enter.clip(min=0) // 2), -(-to_win.clip(min=0) // 2))
    np.put_along_axis(attack, winner[:, None], INFINITE, axis=1)
    return attack.min(1)


def doubled_lead(election: Election, k: int) -> np.ndarray:
    """Twice what each class lacks to beat the winner in round 2, int [n, classes]: 2·v(c>c') − k + 1[c'>c]. A
    classifier that changes sides takes 2 off."""
    return 2 * election.preferred - k + (np.arange(election.counts.shape[1]) > election.winner[:, None])


# ---- Finite Aggregation: an attack takes buckets, and a bucket reaches d classifiers ----


def certify_finite_runoff(scores: np.ndarray, shifts: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FA+ROE's prediction and certificate for scores [n, m, classes], finite, whose columns are subset numbers.

    shifts: those by which m buckets were spread over m subsets (see buckets). prediction [n]: ROE's over the m
    classifiers. radius [n] int64, >= 0, whether or not the prediction is right: no insertion or deletion of up
    to `radius` training samples in total changes the prediction. radius = min(R1, R2) − 1; with one shift it is
    DPA+ROE's. Sound; an adversary may need more (see finite_first_round, finite_second_round). Raises
    InputError for other shifts or fewer than two classes.
    """
    votes = votes_of(scores)
    election = hold_election(scores, count_votes(votes, scores.shape[2]))
    first = finite_first_round(votes, election, shifts)
    return election.winner, np.minimum(first, finite_second_round(scores, votes, election, shifts)) - 1


def finite_first_round(votes: np.ndarray, election: Election, shifts: Sequence[int] | np.ndarray) -> np.ndarray:
    """R1 [n]: at least so many buckets must change until two other classes have overtaken the winner c in round
    1; INFINITE for two classes. votes [n, m] are those of the election.

    The least, over two classes, of the largest of three numbers: the buckets that either class by itself needs,
    and those with which both together make up the sum of their gaps, Σ (1 + 2·1[f=c] − 1[f=c1] − 1[f=c2]). In
    that sum the gap of a class that is before c already counts negative: such a class can give votes away.
    """
    (n, m), classes = votes.shape, election.counts.shape[1]
    spread, result = check_shifts(shifts, m), np.full(votes.shape[0], INFINITE)
    if classes < 3:
        return result
    gaps, small = votes_to_overtake(election.counts, election.winner), _small(votes, classes)
    for rows in blocks_of_rows(n, m * classes):
        sums = votes_reached(small[rows], spread, classes)
        result[rows] = _overtake_both(sums, len(spread), election.winner[rows], gaps[rows])
    return result


def _overtake_both(sums: np.ndarray, d: int, winner: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """R1 [rows] for sums [classes, rows, m] of `votes_reached` and gaps [rows, classes]."""
    alone = buckets_to_overtake(sums, d, winner, gaps)
    ranked = np.argsort(alone, axis=1, kind="stable")[:, :-1]  # without the winner
    best = np.full(len(winner), INFINITE)
    for later in range(1, ranked.shape[1]):
        # Of a pair of classes the one that needs more is `later`; where that is no better, no further pair is.
        open_rows = np.flatnonzero(at(alone, ranked[:, later]) < best)
        if not len(open_rows):
            break
        for earlier in range(later):
            c, a, b = winner[open_rows], ranked[open_rows, earlier], ranked[open_rows, later]
            own, first, second = (sums[of, open_rows] for of in (c, a, b))
            gap = gaps[open_rows, a] + gaps[open_rows, b]
            together = buckets_needed(2 * own + sums.dtype.type(d) - first - second, 3 * d, gap)
            both = np.maximum(together, alone[open_rows, b])
            best[open_rows] = np.minimum(best[open_rows], both)
    return best


def finite_second_round(
    scores: np.ndarray, votes: np.ndarray, election: Election, shifts: Sequence[int] | np.ndarray
) -> np.ndarray:
    """R2 [n]: at least so many buckets must change until some class has reached round 2 in place of the other
    finalist and beats the winner there: the least, over the classes, of the larger of what either takes by
    itself. scores [n, m, classes] and votes [n, m] are those of the election."""
    n, m, classes = scores.shape
    spread, d, result = check_shifts(shifts, m), len(shifts), np.empty(n, np.int64)
    to_enter, to_win = votes_to_overtake(election.counts, election.finalist), doubled_lead(election, m)
    small = _small(votes, classes)
    for rows in blocks_of_rows(n, m * classes):
        block, winner, finalist = scores[rows], election.winner[rows], election.finalist[rows]
        enter = buckets_to_overtake(votes_reached(small[rows], spread, classes), d, finalist, to_enter[rows])
        np.put_along_axis(enter, finalist[:, None], 0, axis=1)
        own = of_class(block, winner)
        best = np.full(len(block), INFINITE)
        for c in range(classes):
            rival = block[:, :, c]
            prefer = np.where((c > winner)[:, None], own >= rival, own > rival)  # the winner to class c
            win = buckets_needed(reached(prefer, spread), d, -(-to_win[rows, c] // 2))
            both = np.maximum(enter[:, c], win)
            best = np.where(winner == c, best, np.minimum(best, both))
        result[rows] = best
    return result


def _small(votes: np.ndarray, classes: int) -> np.ndarray:
    return votes.astype(np.min_scalar_type(classes), copy=False)
