"""What a concrete attack could do, against an adversary who tries everything; and the check of what one did."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mithridate.certify.aggregation import votes
from mithridate.certify.attack import (
    AttackCheck,
    CertificateViolation,
    check_attack,
    may_flip_runoff,
    may_flip_votes,
)
from mithridate.certify.methods import METHODS, certify, predict
from mithridate.errors import InputError
from tests.unit.adversary import can_change_with, pack, reach


def plurality(ballot, classes: int) -> int:
    counts = [list(ballot).count(j) for j in range(classes)]
    return counts.index(max(counts))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(2, 4))
def test_votes_may_flip_exactly_where_some_votes_of_the_touched_flip_them(seed, m, classes):
    stream = np.random.default_rng(seed)
    ballots = np.where(stream.random((4, m)) < 0.5, stream.integers(classes), stream.integers(0, classes, (4, m)))
    touched = stream.random(m) < stream.choice([0.2, 0.5])
    touched[np.flatnonzero(touched)[5:]] = False
    found = may_flip_votes(ballots, touched, classes)
    for ballot, flips in zip(ballots, found, strict=True):
        kept = ballot[~touched].tolist()
        reachable = {plurality([*kept, *said], classes) for said in product(range(classes), repeat=int(touched.sum()))}
        assert flips == (reachable != {plurality(ballot, classes)})


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(1, 2), (5, 2), (8, 2), (3, 3), (5, 3), (7, 3), (8, 3), (4, 4), (6, 4), (8, 4)]),
    st.integers(1, 4),
)
def test_the_runoff_may_flip_exactly_where_some_orders_of_the_touched_flip_it(seed, shape, levels):
    m, classes = shape
    stream = np.random.default_rng(seed)
    scores = stream.integers(0, levels + 1, (3, m, classes)).astype(np.float32)
    scores[..., stream.integers(classes)] += stream.choice([0, 0.5, 1.5])
    for size in range(min(m, 4 if classes == 4 else 6) + 1):
        touched = np.zeros(m, bool)
        touched[stream.choice(m, size, replace=False)] = True
        found = may_flip_runoff(scores, touched)
        for point, flips in zip(scores, found, strict=True):
            assert flips == can_change_with(pack(point), classes, touched)


@given(st.integers(0, 2**32 - 1), st.integers(3, 12), st.integers(2, 5), st.integers(1, 3))
def test_what_is_certified_cannot_flip(seed, m, classes, d):
    """The bound for a concrete attack never contradicts the certificate, whichever buckets are touched."""
    stream = np.random.default_rng(seed)
    shifts = stream.choice(m, d, replace=False).tolist() if d > 1 else [0]
    scores = stream.standard_normal((20, m, classes))
    scores[..., 0] += stream.random((20, 1)) * 3
    for r in range(1, 4):
        touched = reach(tuple(stream.choice(m, min(r, m), replace=False)), shifts, m)
        for method in ("finite", "finite_runoff") if d > 1 else METHODS:
            certified = certify(scores, method, shifts)[1] >= r
            if "runoff" in method:
                flips = may_flip_runoff(scores, touched)
            else:
                flips = may_flip_votes(votes(scores), touched, classes)
            assert not (flips & certified).any()


def test_nothing_touched_flips_nothing_and_everything_touched_flips_all():
    scores = np.random.default_rng(0).standard_normal((50, 9, 4))
    for touched, expected in ((np.zeros(9, bool), 0), (np.ones(9, bool), 50)):
        assert may_flip_runoff(scores, touched).sum() == expected
        assert may_flip_votes(votes(scores), touched, 4).sum() == expected


@pytest.mark.parametrize("mask", [np.zeros(8, bool), np.zeros(9, int), np.zeros((9, 1), bool)])
def test_other_masks_are_refused(mask):
    scores = np.zeros((2, 9, 3))
    with pytest.raises(InputError, match="mask of touched classifiers"):
        may_flip_runoff(scores, mask)
    with pytest.raises(InputError, match="mask of touched classifiers"):
        may_flip_votes(votes(scores), mask, 3)


# ---- The check of a poisoned run ----


def attacked(seed: int, shifts: list[int], buckets: tuple[int, ...], m: int = 12, n: int = 300):
    """Scores before and after an attack that makes the touched classifiers say anything, and the mask."""
    stream = np.random.default_rng(seed)
    before = stream.standard_normal((n, m, 4)).astype(np.float32)
    before[np.arange(n), :, stream.integers(0, 4, n)] += 2 * stream.random((n, 1), np.float32)
    touched = reach(buckets, shifts, m)
    after = before.copy()
    after[:, touched] = stream.standard_normal((n, int(touched.sum()), 4)).astype(np.float32)
    after[: n // 2, touched, 2] += 9
    return before, after, touched


@pytest.mark.parametrize("method", METHODS)
def test_an_honest_run_is_counted(method):
    shifts, buckets = ([0, 5], (1, 7)) if "finite" in method else ([0], (1, 4, 7))
    before, after, touched = attacked(1, shifts, buckets)
    found = check_attack(before, after, touched, len(buckets), method, shifts)
    prediction, radius = certify(before, method, shifts)
    assert found.flips == (predict(after, method) != prediction).sum() > 0
    assert found.certified == (radius >= len(buckets)).sum() > 0
    assert found.flips < found.possible <= 300 - found.certified
    if "finite" not in method:
        assert check_attack(before, after, touched, len(buckets), method) == found
    nothing = np.zeros(12, bool)
    assert check_attack(before, before, nothing, 0, method, shifts) == AttackCheck(0, 0, 300)
    everything = check_attack(before, after, ~nothing, 12, method, shifts)
    assert everything == AttackCheck(found.flips, 300, 0)


def test_blocks_add_up():
    before, after, touched = attacked(2, [0], (3, 4))
    whole = check_attack(before, after, touched, 2, "runoff")
    parts = [
        check_attack(b, a, touched, 2, "runoff") for b, a in zip(np.split(before, 3), np.split(after, 3), strict=True)
    ]
    assert tuple(sum(part) for part in zip(*parts, strict=True)) == whole


@pytest.mark.parametrize("method", ["dpa", "runoff"])
def test_a_single_bit_of_an_untouched_classifier_is_found(method):
    before, after, touched = attacked(3, [0], (3,))
    after.view(np.uint32)[17, 5, 1] ^= 1
    with pytest.raises(CertificateViolation, match="test image 1017: classifier 5 was not touched"):
        check_attack(before, after, touched, 1, method, start_index=1000)
    before, after, touched = attacked(3, [0], (3,))
    before[20, 6, 0], after[20, 6, 0] = 0.0, -0.0  # equal as numbers
    with pytest.raises(CertificateViolation, match="test image 20: classifier 6 was not touched"):
        check_attack(before, after, touched, 1, method)


def margin(prefer: list[int], classes: int = 3) -> np.ndarray:
    """Scores of one test image whose classifiers prefer these classes."""
    return np.eye(classes, dtype=np.float32)[prefer][None]


def test_a_flip_outside_the_bounds_is_found(monkeypatch):
    """With exact bounds no scores can do that; so the bounds are bent."""
    before, after = margin([0, 0, 0, 1, 1]), margin([1, 0, 0, 1, 1])
    touched = np.arange(5) == 0
    assert check_attack(before, after, touched, 1, "dpa") == AttackCheck(1, 1, 0)
    with monkeypatch.context() as patch:
        patch.setattr("mithridate.certify.attack.may_flip_votes", lambda *_: np.zeros(1, bool))
        with pytest.raises(
            CertificateViolation, match=r"test image 7: .*'dpa' changed, but nothing that the 1 touched"
        ):
            check_attack(before, after, touched, 1, "dpa", start_index=7)
    monkeypatch.setattr("mithridate.certify.attack.certify", lambda *_: (np.zeros(1, int), np.full(1, 3)))
    with pytest.raises(CertificateViolation, match="its radius is 3 and 1 buckets were touched"):
        check_attack(before, after, touched, 1, "dpa")


def test_untouched_classifiers_that_move_cannot_hide_behind_a_wrong_mask():
    before, after, touched = attacked(4, [0], (2, 3))
    for gone in np.flatnonzero(touched):
        mask = touched.copy()
        mask[gone] = False
        with pytest.raises(CertificateViolation, match=f"classifier {gone} was not touched"):
            check_attack(before, after, mask, 2, "dpa")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"after_scores": np.zeros((2, 5, 4), np.float32)}, "score the same test images"),
        ({"after_scores": np.zeros((2, 5, 3))}, "score the same test images"),
        ({"touched": np.ones(5, bool)}, "5 classifiers are touched by 2 buckets, which can reach 2 of 5"),
        ({"touched_buckets": 0}, "2 classifiers are touched by 0 buckets"),
        ({"touched_buckets": 6}, "2 classifiers are touched by 6 buckets"),
        ({"touched": np.ones(4, bool)}, "mask of touched classifiers"),
        ({"method": "bagging"}, "is unknown"),
        ({"method": "finite"}, "needs the shifts"),
        ({"shifts": [0, 1]}, "one sample touches several classifiers"),
        ({"before_scores": np.full((2, 5, 3), np.nan, np.float32)}, "before the attack are not all finite"),
        ({"before_scores": np.zeros((2, 5)), "after_scores": np.zeros((2, 5))}, "shape"),
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(change, message):
    good = {
        "before_scores": np.zeros((2, 5, 3), np.float32),
        "after_scores": np.zeros((2, 5, 3), np.float32),
        "touched": np.arange(5) < 2,
        "touched_buckets": 2,
        "method": "dpa",
    }
    with pytest.raises(InputError, match=message):
        check_attack(**{**good, **change})


def test_every_pair_of_partitions_of_a_small_ensemble_keeps_to_the_certificate():
    before, after, _ = attacked(5, [0], tuple(range(7)), m=7, n=40)
    for buckets in combinations(range(7), 2):
        touched = reach(buckets, [0], 7)
        mixed = np.where(touched[:, None], after, before)
        for method in ("dpa", "runoff"):
            found = check_attack(before, mixed, touched, 2, method)
            assert found.flips <= found.possible
