"""Votes and DPA's certificate: vectors, and every ensemble of at most eight classifiers against every
adversary."""

import sys
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mithridate.certify.aggregation import certify_dpa, vote_counts, votes, winner_and_runner_up
from mithridate.certify.scores_check import check_scores
from mithridate.errors import InputError

VECTORS = [
    ([5, 3, 2], 0, 1),
    ([3, 5, 2], 1, 0),
    ([4, 4, 2], 0, 0),
    ([2, 4, 4], 1, 0),
    ([6, 1, 1, 2], 0, 2),
    ([1, 6, 1, 2], 1, 2),
    ([2, 7, 1], 1, 2),
    ([10, 0, 0], 0, 5),
    ([0, 10, 0], 1, 4),
    ([3, 3, 3, 1], 0, 0),
    ([25, 15, 10], 0, 5),
]


@pytest.mark.parametrize(("counts", "prediction", "radius"), VECTORS)
def test_dpa_vectors(counts, prediction, radius):
    got = certify_dpa(np.array([counts]))
    assert [int(part[0]) for part in got] == [prediction, radius]


def winner(counts: tuple[int, ...]) -> int:
    return min(range(len(counts)), key=lambda c: (-counts[c], c))


def neighbours(counts: tuple[int, ...]) -> set[tuple[int, ...]]:
    """What the counts can be after one classifier votes for whatever the adversary likes."""
    reached = {counts}
    for a in range(len(counts)):
        for b in range(len(counts)):
            if counts[a]:
                moved = list(counts)
                moved[a] -= 1
                moved[b] += 1
                reached.add(tuple(moved))
    return reached


def least_attack(counts: tuple[int, ...], limit: int) -> int:
    """The least number of changed votes that changes the prediction, by trying all; limit + 1 where none
    does."""
    reached = {counts}
    for changed in range(1, limit + 1):
        reached = set().union(*(neighbours(state) for state in reached))
        if any(winner(state) != winner(counts) for state in reached):
            return changed
    return limit + 1


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("k", range(1, 9))
def test_dpa_certificate_is_sound_and_tight_for_all_counts(classes, k):
    ensembles = [
        tuple(np.bincount(votes, minlength=classes).tolist())
        for votes in combinations_with_replacement(range(classes), k)
    ]
    prediction, radius = certify_dpa(np.array(ensembles))
    assert prediction.tolist() == [winner(counts) for counts in ensembles]
    assert (radius + 1).tolist() == [least_attack(counts, k) for counts in ensembles]


def test_equal_scores_vote_for_the_smaller_class():
    scores = np.array([[[1, 2, 2], [0, 0, 0], [3, 1, 3]]], np.float32)
    assert votes(scores).tolist() == [[1, 0, 0]]
    assert vote_counts(scores).tolist() == [[2, 1, 0]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 12), st.integers(2, 6))
def test_vote_counts_are_those_of_a_loop_and_need_no_order(seed, n, k, classes):
    stream = np.random.default_rng(seed)
    scores = stream.integers(0, 4, (n, k, classes)).astype(np.float32)
    expected = [[sum(int(row.argmax()) == c for row in image) for c in range(classes)] for image in scores]
    assert vote_counts(scores).tolist() == expected
    assert np.array_equal(vote_counts(scores[:, stream.permutation(k)]), vote_counts(scores))


def test_winner_and_runner_up_may_tie():
    counts = np.array([[4, 4, 2], [2, 1, 7]])
    first, second = winner_and_runner_up(counts, np.array([1, 2]))
    assert first.tolist() == [4, 7]
    assert second.tolist() == [4, 2]


@pytest.mark.parametrize("certify", [lambda: certify_dpa(np.ones((3, 1), int)), lambda: votes(np.ones((3, 2, 1)))])
def test_one_class_is_refused(certify):
    with pytest.raises(InputError, match="at least two classes"):
        certify()


def good() -> dict:
    return {
        "scores": np.zeros((4, 3, 2), np.float32),
        "labels": np.array([0, 1, 1, 0]),
        "subset_ids": np.array([2, 0, 1]),
    }


def test_good_scores_give_the_order_of_their_columns():
    ids = good()["subset_ids"]
    assert ids[check_scores(**good())].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.zeros((4, 3))}, r"shape \(4, 3\)"),
        ({"scores": np.zeros((4, 3, 1))}, "1 class"),
        ({"scores": np.zeros((4, 0, 2)), "subset_ids": np.zeros(0, int)}, "no classifiers"),
        ({"scores": np.zeros((0, 3, 2)), "labels": np.zeros(0, int)}, "no test images"),
        ({"labels": np.zeros(3, int)}, r"4 test images.*\(3,\)"),
        ({"labels": np.zeros(4)}, "float64"),
        ({"labels": np.array([0, 1, 2, 0])}, "test image 102 .* is 2, outside 0..1"),
        ({"labels": np.array([0, -1, 1, 0])}, "test image 101 .* is -1"),
        ({"subset_ids": np.arange(2)}, "3 columns"),
        ({"subset_ids": np.array([0, 1, 1])}, "subset 1 twice"),
        ({"subset_ids": np.array([0, 1, 3])}, "none of subset 2"),
        ({"subset_ids": np.array([-1, 0, 1])}, "none of subset 2"),
    ],
)
def test_bad_scores_are_refused_in_one_sentence(change, message):
    with pytest.raises(InputError, match=message) as error:
        check_scores(**{**good(), **change}, start_index=100, where="some/scores.h5")
    assert "some/scores.h5" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_named(value):
    given = good()
    given["scores"][2, 1, 1] = value
    with pytest.raises(InputError, match="test image 102, subset 0, class 1"):
        check_scores(**given, start_index=100)


def test_certificates_need_no_torch():
    modules = ("attack", "collective", "rab", "streaming", "tables")
    code = (
        f"import sys, {', '.join(f'mithridate.certify.{name}' for name in modules)}; "
        "print([name for name in ('torch', 'snakemake', 'h5py') if name in sys.modules])"
    )
    from subprocess import run

    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
