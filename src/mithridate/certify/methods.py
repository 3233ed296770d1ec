"""The certificates for one test image at a time, by name, and what each may be applied to."""

from collections.abc import Callable, Sequence

import numpy as np

from mithridate.certify.aggregation import certify_dpa, certify_finite, vote_counts, votes
from mithridate.certify.runoff import certify_finite_runoff, certify_runoff, hold_election
from mithridate.errors import InputError
from mithridate.options.certificates import CERTIFICATES, names

Certify = Callable[[np.ndarray, np.ndarray, Sequence[int]], tuple[np.ndarray, np.ndarray]]

METHODS: dict[str, Certify] = {
    "dpa": lambda scores, counts, shifts: certify_dpa(counts),
    "runoff": lambda scores, counts, shifts: certify_runoff(scores, counts),
    "finite": lambda scores, counts, shifts: certify_finite(votes(scores), shifts, scores.shape[2]),
    "finite_runoff": lambda scores, counts, shifts: certify_finite_runoff(scores, shifts),
}
"""By name: (scores [n, m, classes], their vote counts [n, classes], shifts) -> (prediction [n], radius [n])."""

OVERLAPPING = names(overlapping=True)
"""Those that need the shifts."""

RUNOFFS = tuple(name for name, one in CERTIFICATES.items() if one.runoff)


def check_method(method: str, shifts: Sequence[int] | np.ndarray | None, where: str = "the score matrix") -> None:
    """Raises InputError for an unknown method, for one of disjoint subsets where the shifts say that they
    overlap (its certificate would be unsound), and for Finite Aggregation without shifts."""
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown: choose among {', '.join(METHODS)}.")
    if method in OVERLAPPING and shifts is None:
        raise InputError(
            f"method {method!r} needs the shifts that spread the buckets over the subsets, and {where} comes "
            "without: give them, or choose dpa or runoff where the subsets are disjoint."
        )
    if method not in OVERLAPPING:
        check_disjoint(method, shifts, where)


def check_disjoint(method: str, shifts: Sequence[int] | np.ndarray | None, where: str = "the score matrix") -> None:
    """Raises InputError unless there are no shifts or the one shift 0."""
    if shifts is not None and np.asarray(shifts).tolist() != [0]:
        raise InputError(
            f"the subsets of {where} overlap (shifts {np.asarray(shifts).tolist()}), so that one sample touches "
            f"several classifiers and the certificate {method!r} does not hold: choose {' or '.join(OVERLAPPING)}."
        )


def certify(
    scores: np.ndarray,
    method: str,
    shifts: Sequence[int] | np.ndarray | None = None,
    counts: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """prediction [n] and radius [n] of a method, for finite scores [n, m, classes] with columns in the order of
    subset numbers. counts [n, classes] are the vote counts where known already. Raises InputError as
    `check_method` does, and for fewer than two classes."""
    check_method(method, shifts)
    known = vote_counts(scores) if counts is None else counts
    return METHODS[method](scores, known, [0] if shifts is None else [int(shift) for shift in shifts])


def predict(scores: np.ndarray, method: str) -> np.ndarray:
    """A method's prediction alone, [n]."""
    counts = vote_counts(scores)
    return hold_election(scores, counts).winner if method in RUNOFFS else counts.argmax(1)
