"""Votes of base classifiers and the certificates of Deep Partition Aggregation (DPA) and Finite Aggregation (FA).

Sources: Levine & Feizi, "Deep Partition Aggregation: Provable Defense against General Poisoning Attacks",
ICLR 2021, Theorem 1; Wang, Levine & Feizi, "Improved Certified Defenses against Data Poisoning with
(Deterministic) Finite Aggregation", ICML 2022. The statements are deterministic: no probability, no sampling.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np

from mithridate.certify.buckets import blocks_of_rows, buckets_to_overtake, check_shifts, votes_reached
from mithridate.certify.scores_check import check_votes
from mithridate.errors import InputError


def votes(scores: np.ndarray) -> np.ndarray:
    """The class each base classifier votes for, int [n, k], from scores [n, k, classes].

    The highest score wins, of equal ones the smaller class. Scores must be finite (see scores_check).
    Raises InputError where there are fewer than two classes.
    """
    if scores.ndim != 3 or scores.shape[2] < 2:
        raise InputError(
            f"scores have shape {scores.shape}, but a certificate needs [images, classifiers, classes] "
            "with at least two classes: check the data set's labels and the score matrix."
        )
    return cast(np.ndarray, scores.argmax(2))


def count_votes(votes: np.ndarray, num_classes: int) -> np.ndarray:
    """Votes per class, int [n, num_classes], from votes [n, k] in 0..num_classes-1."""
    n = len(votes)
    cells = votes + np.arange(n)[:, None] * num_classes
    return np.bincount(cells.ravel(), minlength=n * num_classes).reshape(n, num_classes)


def vote_counts(scores: np.ndarray) -> np.ndarray:
    """Votes per class, int [n, classes], from scores [n, k, classes]. Raises InputError as `votes` does."""
    return count_votes(votes(scores), scores.shape[2])


def certify_dpa(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DPA's prediction and certificate for votes per class, int [n, classes].

    prediction [n]: the class with most votes, of equal ones the smaller.
    radius [n], >= 0, whether or not the prediction is right: no insertion or deletion of up to `radius`
    training samples in total changes the prediction, because each touches one base classifier; and the bound
    is exact: `radius` + 1 changed votes can change it. ⌊(n_c − max_{c'≠c}(n_{c'} + 1[c'<c])) / 2⌋ (Theorem
    1). Raises InputError where there are fewer than two classes.
    """
    if counts.ndim != 2 or counts.shape[1] < 2:
        raise InputError(
            f"vote counts have shape {counts.shape}, but a certificate needs [images, classes] with at least "
            "two classes: check the data set's labels and the score matrix."
        )
    prediction = counts.argmax(1)
    rivals = counts + (np.arange(counts.shape[1]) < prediction[:, None])
    np.put_along_axis(rivals, prediction[:, None], -1, axis=1)
    margin = at(counts, prediction) - rivals.max(1)
    return prediction, margin // 2


def certify_finite(
    votes: np.ndarray, shifts: Sequence[int] | np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """FA's prediction and certificate for votes [n, m] in 0..num_classes-1, whose columns are subset numbers.

    shifts: those by which m buckets were spread over m subsets (see buckets). prediction [n]: the class with
    most votes, of equal ones the smaller. radius [n] int64, >= 0, whether or not the prediction is right: no
    insertion or deletion of up to `radius` training samples in total changes the prediction. With c the
    prediction, Δ = n_c − n_{c'} − 1[c'<c] and w_h = Σ_s (1 + 1[f_{h+s}=c] − 1[f_{h+s}=c']), it is the least over
    c'≠c of the largest r at which the r largest w add up to at most Δ.

    Exact where the d shifts are one (then it is DPA's), and where buckets that reach no classifier in common
    have the largest w; else sound, but an adversary may need more, because a classifier that two of his buckets
    reach counts twice. Raises InputError for other votes or shifts.
    """
    check_votes(votes, num_classes)
    n, m = votes.shape
    spread = check_shifts(shifts, m)
    counts = count_votes(votes, num_classes)
    prediction = counts.argmax(1)
    gaps = votes_to_overtake(counts, prediction)
    small = votes.astype(np.min_scalar_type(num_classes), copy=False)
    radius = np.empty(n, np.int64)
    for rows in blocks_of_rows(n, m * num_classes):
        sums = votes_reached(small[rows], spread, num_classes)
        radius[rows] = buckets_to_overtake(sums, len(spread), prediction[rows], gaps[rows]).min(1) - 1
    return prediction, radius


def votes_to_overtake(counts: np.ndarray, leader: np.ndarray) -> np.ndarray:
    """By how many votes each class must gain on a leading class to be placed before it, int [n, classes].

    n_leader − n_j + 1[j > leader]: of equal counts the smaller class stands first. Not positive where class j
    is before the leader already; at the leader itself 0. counts [n, classes], leader [n].
    """
    return at(counts, leader)[:, None] - counts + (np.arange(counts.shape[1]) > leader[:, None])


def winner_and_runner_up(counts: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Votes for the predicted class [n] and for the strongest other class [n]; counts [n, classes]."""
    others = counts.copy()
    np.put_along_axis(others, prediction[:, None], -1, axis=1)
    return at(counts, prediction), others.max(1)


def at(table: np.ndarray, column: np.ndarray) -> np.ndarray:
    """table[i, column[i]] for every row i: [n] from [n, classes] and [n]."""
    return np.take_along_axis(table, column[:, None], axis=1)[:, 0]
