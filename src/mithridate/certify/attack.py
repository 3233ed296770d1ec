"""What a concrete attack can do at most, and the check that a retrained ensemble keeps to it.

For a concrete poisoned training set only some base classifiers have seen other data: the touched ones. Whatever
these say now, the rest say the same as before; so one can tell which test images may change their prediction,
and no image may whose radius is at least the number of touched partitions (Finite Aggregation: buckets). What
retraining really changed must lie within both bounds; anything else is an error in training, in scoring or in
the certificate, never bad luck.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mithridate.certify.aggregation import at, count_votes, votes_to_overtake
from mithridate.certify.aggregation import votes as votes_of
from mithridate.certify.methods import RUNOFFS, certify, predict
from mithridate.certify.runoff import doubled_lead, hold_election, of_class
from mithridate.certify.scores_check import check_votes
from mithridate.errors import InputError


class CertificateViolation(Exception):
    """An ensemble did what its certificate excludes. Not an InputError: nothing the user gave is wrong."""


class AttackCheck(NamedTuple):
    """Counts of test images."""

    flips: int  # the prediction changed
    possible: int  # it might have, given the touched classifiers
    certified: int  # it could not: radius >= the number of touched buckets


def may_flip_votes(votes: np.ndarray, touched: np.ndarray, num_classes: int) -> np.ndarray:
    """Whether the plurality vote could change if the touched classifiers voted for anything at all; bool [n].

    votes [n, m] of the clean ensemble, touched bool [m]. Exact, for DPA and FA: some class c' can be placed
    before the prediction c once all touched classifiers vote for it, which is the same as Σ_{i touched}
    (1 + 1[f_i=c] − 1[f_i=c']) > n_c − n_{c'} − 1[c'<c]. Raises InputError for votes out of range or a mask of
    another length.
    """
    check_votes(votes, num_classes)
    _check_mask(touched, votes.shape[1])
    prediction = count_votes(votes, num_classes).argmax(1)
    kept = count_votes(votes[:, ~touched], num_classes)
    can = votes_to_overtake(kept, prediction) <= touched.sum()
    np.put_along_axis(can, prediction[:, None], False, axis=1)
    return can.any(1)


def may_flip_runoff(scores: np.ndarray, touched: np.ndarray) -> np.ndarray:
    """Whether the Run-off Election could change if the touched classifiers had any scores at all; bool [n].

    scores [n, m, classes] of the clean ensemble, touched bool [m]. Exact, for DPA+ROE and FA+ROE, and thereby
    tighter than the sums that the certificate is made of. The winner c loses either in round 1, when the votes
    of the touched suffice to place two other classes before it; or in round 2 to a class c', for which it is
    best that all touched vote for c' and prefer it to c: then c' is a finalist unless two classes stay before
    it, and it beats c head to head. (If c is no finalist then, it has lost as well.) Raises InputError for
    fewer than two classes or a mask of another length.
    """
    votes = votes_of(scores)
    n, m, classes = scores.shape
    _check_mask(touched, m)
    t = int(touched.sum())
    election = hold_election(scores, count_votes(votes, classes))
    winner = election.winner
    kept = count_votes(votes[:, ~touched], classes)
    needed = votes_to_overtake(kept, winner).clip(min=0)
    np.put_along_axis(needed, winner[:, None], 2 * m + 2, axis=1)  # out of reach
    smallest = np.partition(needed, 1, axis=1)
    misses_round_2 = smallest[:, 0] + smallest[:, 1] <= t

    # c' is in round 2 if it is placed before all classes but one: before the second of the others.
    can_win = np.zeros((n, classes), bool)
    own = of_class(scores, winner)
    for c in range(classes):
        others = kept.copy()
        others[:, c] = -1
        rank = np.argsort(-others, axis=1, kind="stable")
        second = rank[:, 1]
        enters = at(kept, second) - kept[:, c] + (c > second) <= t
        rival = scores[:, :, c]
        prefer = np.where((c > winner)[:, None], own >= rival, own > rival) & touched
        beats = doubled_lead(election, m)[:, c] <= 2 * prefer.sum(1)
        can_win[:, c] = enters & beats & (c != winner)
    return misses_round_2 | can_win.any(1)


def _check_mask(touched: np.ndarray, m: int) -> None:
    if touched.dtype != bool or touched.shape != (m,):
        raise InputError(
            f"the mask of touched classifiers is {touched.dtype} of shape {touched.shape} instead of bool ({m},): "
            "one entry per classifier is needed."
        )


def check_attack(
    before_scores: np.ndarray,
    after_scores: np.ndarray,
    touched: np.ndarray,
    touched_buckets: int,
    method: str,
    shifts: Sequence[int] | np.ndarray | None = None,
    *,
    start_index: int = 0,
) -> AttackCheck:
    """Hold what an attack did to an ensemble against what it could do.

    before_scores, after_scores [n, m, classes]: the same test images under the ensemble trained on clean and on
    poisoned data, columns in the order of subset numbers; images start_index.. of the test set. touched bool
    [m]: the classifiers whose training data the attack changed; touched_buckets: in how many buckets (DPA:
    partitions) it changed something. method and shifts as in methods.certify.

    Raises CertificateViolation, with the first test image's index, where (a) an untouched classifier's scores
    differ, bit for bit; (b) the prediction changed though nothing that the touched classifiers say could change
    it; (c) it changed though the radius is at least touched_buckets. Raises InputError where the arguments do
    not fit together: different shapes or types, scores that are not finite, more touched classifiers than the
    buckets reach.
    """
    m = before_scores.shape[1] if before_scores.ndim == 3 else 0
    if before_scores.shape != after_scores.shape or before_scores.dtype != after_scores.dtype:
        raise InputError(
            f"scores before the attack are {before_scores.dtype} {before_scores.shape}, after it {after_scores.dtype} "
            f"{after_scores.shape}: score the same test images by families of the same size."
        )
    prediction, radius = certify(before_scores, method, shifts)
    _check_mask(touched, m)
    reach = touched_buckets * (1 if shifts is None else len(shifts))
    if not touched.any() <= touched_buckets <= m or touched.sum() > reach:
        raise InputError(
            f"{touched.sum()} classifiers are touched by {touched_buckets} buckets, which can reach {reach} of {m}: "
            "count buckets and classifiers from the same pair of subsets.h5."
        )
    for name, scores in (("before", before_scores), ("after", after_scores)):
        if not np.isfinite(scores).all():
            raise InputError(f"the scores {name} the attack are not all finite: score that family again.")

    kept = [np.ascontiguousarray(scores[:, ~touched]).view(np.uint8) for scores in (before_scores, after_scores)]
    differs = np.argwhere((kept[0] != kept[1]).any(2))
    if len(differs):
        row, column = differs[0]
        raise CertificateViolation(
            f"test image {start_index + row}: classifier {np.flatnonzero(~touched)[column]} was not touched by the "
            "attack, but its scores differ, so that it is not a function of its own subset alone and no certificate "
            "holds."
        )
    flipped = predict(after_scores, method) != prediction
    if method in RUNOFFS:
        possible = may_flip_runoff(before_scores, touched)
    else:
        possible = may_flip_votes(votes_of(before_scores), touched, before_scores.shape[2])
    certified = radius >= touched_buckets
    for excluded, reason in (
        (certified, f"its radius is {{radius}} and {touched_buckets} buckets were touched"),
        (~possible, f"nothing that the {touched.sum()} touched classifiers say could change it"),
    ):
        wrong = np.flatnonzero(flipped & excluded)
        if len(wrong):
            raise CertificateViolation(
                f"test image {start_index + wrong[0]}: the prediction of {method!r} changed, but "
                f"{reason.format(radius=radius[wrong[0]])}."
            )
    return AttackCheck(int(flipped.sum()), int(possible.sum()), int(certified.sum()))
