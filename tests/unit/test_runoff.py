"""Run-off Election: vectors, the published dynamic programme, and a brute-force adversary."""

from functools import cache
from itertools import combinations, combinations_with_replacement, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mithridate.certify.aggregation import certify_dpa, vote_counts
from mithridate.certify.runoff import (
    INFINITE,
    Election,
    certify_runoff,
    first_round,
    hold_election,
    overtake_both,
    second_round,
)
from mithridate.errors import InputError
from tests.unit.adversary import can_change, elect, pack


def rounds(scores: list) -> dict[str, int]:
    array = np.array([scores], np.float32)
    election = hold_election(array)
    prediction, radius = certify_runoff(array)
    assert prediction[0] == election.winner[0]
    found = {"prediction": prediction, "radius": radius, "finalist": election.finalist}
    found |= {"R1": first_round(election), "R2": second_round(election, array.shape[1])}
    return {name: int(value[0]) for name, value in found.items()}


def test_runoff_overturns_the_first_round():
    scores = 3 * [[3, 2, 1]] + 2 * [[1, 3, 2]] + 2 * [[1, 2, 3]]
    assert [int(v[0]) for v in certify_dpa(vote_counts(np.array([scores])))] == [0, 0]
    found = rounds(scores)
    assert (found["prediction"], found["radius"]) == (1, 0)


def test_clear_winner():
    scores = [*(5 * [[3, 2, 1]]), [2, 3, 1], [1, 2, 3]]
    assert [int(v[0]) for v in certify_dpa(vote_counts(np.array([scores])))] == [0, 2]
    assert rounds(scores) == {"prediction": 0, "radius": 1, "finalist": 1, "R1": 4, "R2": 2}


def test_class_without_votes():
    found = rounds(4 * [[3, 1, 2]] + 3 * [[1, 3, 2]])
    assert (found["prediction"], found["R1"], found["R2"], found["radius"]) == (0, 3, 1, 0)


def test_ties():
    scores = [[2, 2, 1], [2, 1, 0], [0, 2, 1], [1, 2, 2], [2, 2, 2]]
    assert vote_counts(np.array([scores])).tolist() == [[3, 2, 0]]
    found = rounds(scores)
    assert (found["prediction"], found["radius"]) == (0, 0)


def test_tie_of_the_second_round_goes_to_the_smaller_class():
    scores = [[1, 3, 2, 0], [1, 3, 2, 0], [1, 2, 3, 0], [3, 1, 2, 0]]
    assert vote_counts(np.array([scores])).tolist() == [[1, 2, 1, 0]]
    found = rounds(scores)  # classes 1 and 0 go on; 3 : 1
    assert (found["prediction"], found["finalist"]) == (1, 0)
    found = rounds([[1, 3], [3, 1]])
    assert (found["prediction"], found["finalist"]) == (0, 1)
    # 2 leads round 1, then 0 and 2 are preferred by two each
    found = rounds([[0, 1, 3], [0, 1, 3], [3, 1, 0], [2, 3, 0]])
    assert (found["prediction"], found["finalist"]) == (0, 2)


def test_two_classes_can_only_lose_the_second_round():
    election = hold_election(np.array([[[2.0, 1.0]] * 5]))
    assert first_round(election).tolist() == [INFINITE]
    assert second_round(election, 5).tolist() == [3]


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_of_two_classes_both_methods_say_the_same(seed, k):
    scores = np.random.default_rng(seed).integers(0, 3, (30, k, 2)).astype(np.float32)
    assert np.array_equal(certify_runoff(scores), certify_dpa(vote_counts(scores)))


def test_one_class_is_refused():
    with pytest.raises(InputError, match="at least two classes"):
        certify_runoff(np.ones((2, 3, 1)))


@cache
def programme(gap_1: int, gap_2: int) -> int:
    """The published dynamic programme: each change takes a vote from the winner for one of the two rivals."""
    if gap_1 <= 0 and gap_2 <= 0:
        return 0
    gap_1, gap_2 = max(gap_1, 0), max(gap_2, 0)
    return 1 + min(programme(gap_1 - 2, gap_2 - 1), programme(gap_1 - 1, gap_2 - 2))


def test_closed_form_is_the_dynamic_programme():
    gap_1, gap_2 = np.meshgrid(np.arange(61), np.arange(61))
    expected = [
        [programme(int(a), int(b)) for a, b in zip(*row, strict=True)] for row in zip(gap_1, gap_2, strict=True)
    ]
    assert overtake_both(gap_1, gap_2).tolist() == expected


@given(st.integers(0, 2**32 - 1))
def test_first_round_tries_every_pair(seed):
    stream = np.random.default_rng(seed)
    counts, winner = stream.integers(0, 12, (20, 5)), stream.integers(0, 5, 20)
    for n, c, got in zip(counts.tolist(), winner, first_round(Election(counts, winner, winner, counts)), strict=True):
        gaps = [max(0, n[c] - n[j] + (j > c)) for j in range(5) if j != c]
        assert got == min(programme(a, b) for a, b in combinations(gaps, 2))


def slack(scores: np.ndarray) -> list[int]:
    """How many classifiers more than radius + 1 the adversary needs, for every test point of [n, k, classes].

    Asserts that the certificate is sound, and exact wherever the first round decides it.
    """
    _, k, classes = scores.shape
    election, (predictions, radii) = hold_election(scores), certify_runoff(scores)
    decided_by_first = first_round(election) <= second_round(election, k)
    found = []
    for point, prediction, radius, exact in zip(scores, predictions, radii, decided_by_first, strict=True):
        profile = pack(point)
        assert prediction == elect(profile.sum(keepdims=True), classes, k)[0]
        assert not can_change(profile, classes, int(radius)), (point, radius)
        need = next(r for r in range(int(radius) + 1, k + 1) if can_change(profile, classes, r))
        assert need == radius + 1 or not exact, (point, radius, need)
        found.append(need - int(radius) - 1)
    return found


# R2 is the larger of two numbers of changes, and sometimes no one set of changes serves both purposes:
# (classes, k): profiles with that slack.
LOOSE = {(3, 6): 9, (3, 7): 15}


@pytest.mark.parametrize(("classes", "k"), [*((2, k) for k in range(1, 9)), *((3, k) for k in range(1, 8))])
def test_certificate_is_sound_and_almost_always_exact_for_all_profiles(classes, k):
    rows = np.array(list(permutations(range(classes))), np.float32)
    profiles = np.array(list(combinations_with_replacement(range(len(rows)), k)))
    found = np.bincount(slack(rows[profiles]), minlength=2).tolist()
    loose = LOOSE.get((classes, k), 0)
    assert found == [len(profiles) - loose, loose]


def test_an_adversary_may_need_one_classifier_more():
    """One change lets class 0 into round 2 if it is taken from class 2's voters, and makes it win there if it
    is taken from class 1's; nothing does both, though R1 and R2 cannot tell."""
    scores = np.array([4 * [[0, 2, 1]] + 2 * [[1, 0, 2]]], np.float32)
    assert [int(v[0]) for v in certify_runoff(scores)] == [1, 0]
    assert slack(scores) == [1]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(7, 3), (8, 3), (3, 4), (4, 4), (5, 4), (6, 4)]),
    st.integers(1, 4),
)
def test_certificate_is_sound_with_ties_and_off_by_one_at_most(seed, shape, levels):
    stream = np.random.default_rng(seed)
    scores = stream.integers(0, levels + 1, (1, *shape)).astype(np.float32)
    scores[..., stream.integers(shape[1])] += stream.choice([0, 0.5, 1.5])  # towards clear winners
    assert slack(scores)[0] in (0, 1)


@pytest.mark.parametrize("seed", range(4))
def test_certificate_is_exact_for_these_eight_classifiers_and_four_classes(seed):
    scores = np.random.default_rng(seed).standard_normal((1, 8, 4))
    scores[..., seed] += 1
    assert slack(scores) == [0]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(2, 6))
def test_order_of_classifiers_and_scale_do_not_matter(seed, k, classes):
    stream = np.random.default_rng(seed)
    scores = stream.integers(0, 4, (10, k, classes)).astype(np.float32)
    shuffled = 2 * scores[:, stream.permutation(k)] - 7
    assert np.array_equal(certify_runoff(scores), certify_runoff(shuffled))


def test_rows_are_independent_of_the_working_block(monkeypatch):
    scores = np.random.default_rng(0).integers(0, 5, (101, 9, 4)).astype(np.float32)
    whole = certify_runoff(scores)
    monkeypatch.setattr("mithridate.certify.runoff.CELLS", 1)
    assert np.array_equal(certify_runoff(scores), whole)
