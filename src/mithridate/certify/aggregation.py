"""Votes of base classifiers and the certificate of Deep Partition Aggregation (DPA).

Source: Levine & Feizi, "Deep Partition Aggregation: Provable Defense against General Poisoning Attacks",
ICLR 2021, Theorem 1. The statements are deterministic: no probability, no sampling.
"""

from typing import cast

import numpy as np

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


def winner_and_runner_up(counts: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Votes for the predicted class [n] and for the strongest other class [n]; counts [n, classes]."""
    others = counts.copy()
    np.put_along_axis(others, prediction[:, None], -1, axis=1)
    return at(counts, prediction), others.max(1)


def at(table: np.ndarray, column: np.ndarray) -> np.ndarray:
    """table[i, column[i]] for every row i: [n] from [n, classes] and [n]."""
    return np.take_along_axis(table, column[:, None], axis=1)[:, 0]
