"""What a score matrix must be before a certificate is computed from it."""

import numpy as np

from mithridate.errors import InputError


def check_scores(
    scores: np.ndarray,
    labels: np.ndarray,
    subset_ids: np.ndarray,
    *,
    start_index: int = 0,
    where: str = "the score matrix",
) -> np.ndarray:
    """The order [k] that puts the columns of scores [n, k, classes] into the order of subset numbers 0..k-1.

    labels [n] are classes, subset_ids [k] each of 0..k-1 once; the rows may be a block that begins at test
    image `start_index`, and `where` names the file in messages. Raises InputError for anything else: wrong
    shapes, no test images, fewer than two classes, labels out of range, missing or repeated subsets, NaN or
    infinite scores.
    """
    if scores.ndim != 3:
        raise InputError(f"{where} has shape {scores.shape} instead of [images, classifiers, classes]: make it again.")
    n, k, classes = scores.shape
    if classes < 2:
        raise InputError(
            f"{where} has {classes} class, and one class leaves nothing to certify: use a data set with two."
        )
    if k == 0:
        raise InputError(f"{where} holds no classifiers: train at least one and score it again.")
    check_labels(labels, n, classes, start_index=start_index, where=where)
    order = subset_order(subset_ids, k, where=where)
    if scores.dtype.kind == "f" and not np.isfinite(scores).all():
        row, column, label = np.argwhere(~np.isfinite(scores))[0]
        raise InputError(
            f"{where} holds {scores[row, column, label]} at test image {start_index + row}, "
            f"subset {subset_ids[column]}, class {label}: score that subset's classifier again."
        )
    return order


def check_votes(votes: np.ndarray, num_classes: int, *, where: str = "the table of votes") -> None:
    """Raises InputError unless votes are integers [n, m] in 0..num_classes-1, of n, m >= 1 and two classes."""
    if num_classes < 2:
        raise InputError(f"{where} has {num_classes} class, and one leaves nothing to certify: use data with two.")
    if votes.ndim != 2 or votes.dtype.kind not in "iu" or votes.size == 0:
        raise InputError(
            f"{where} is {votes.dtype} of shape {votes.shape} instead of class numbers [images, classifiers]: "
            "take the argmax of the scores."
        )
    if votes.min() < 0 or votes.max() >= num_classes:
        row, column = np.argwhere((votes < 0) | (votes >= num_classes))[0]
        raise InputError(
            f"in {where} classifier {column} votes for class {votes[row, column]} at test image {row}, outside "
            f"0..{num_classes - 1}: number classes from 0."
        )


def check_labels(labels: np.ndarray, n: int, classes: int, *, start_index: int, where: str) -> None:
    """Raises InputError unless labels are n >= 1 integers in 0..classes-1."""
    if labels.shape != (n,):
        raise InputError(
            f"{where} scores {n} test images, but the labels have shape {labels.shape}: "
            "score the same test set again, labels and images from one data file."
        )
    if n == 0:
        raise InputError(f"{where} holds no test images: give a data set with a test set.")
    if labels.dtype.kind not in "iu":
        raise InputError(f"the labels of {where} are {labels.dtype}, not integers: store class numbers.")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise InputError(
            f"the label of test image {start_index + wrong[0]} in {where} is {labels[wrong[0]]}, outside "
            f"0..{classes - 1}: number classes from 0 and score with one output per class."
        )


def subset_order(subset_ids: np.ndarray, k: int, *, where: str) -> np.ndarray:
    """The order [k] that sorts subset_ids [k]. Raises InputError unless they are each of 0..k-1 once."""
    if subset_ids.shape != (k,):
        raise InputError(f"{where} has {k} columns, but its subset_ids have shape {subset_ids.shape}: make it again.")
    order = np.argsort(subset_ids, kind="stable")
    ids = subset_ids[order]
    repeated = ids[1:][ids[1:] == ids[:-1]]
    if len(repeated):
        raise InputError(f"{where} holds subset {repeated[0]} twice: gather every slice of the family exactly once.")
    if not np.array_equal(ids, np.arange(k)):
        missing = np.setdiff1d(np.arange(k), ids)[0]
        raise InputError(f"{where} has {k} columns, but none of subset {missing}: gather all slices of the family.")
    return order
