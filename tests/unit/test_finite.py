"""Finite Aggregation and its Run-off Election: vectors, the formulas written out, and a brute-force adversary who owns
every classifier that his buckets reach."""

from itertools import combinations, combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mithridate.certify.aggregation import certify_dpa, certify_finite, count_votes, vote_counts, votes
from mithridate.certify.attack import may_flip_runoff, may_flip_votes
from mithridate.certify.buckets import INFINITE, buckets_needed
from mithridate.certify.runoff import (
    certify_finite_runoff,
    certify_runoff,
    finite_first_round,
    finite_second_round,
    hold_election,
)
from mithridate.errors import InputError
from tests.unit.adversary import can_change_with, elect, pack, reach

PUBLISHED = [363, 90, 492, 37, 157, 206, 304, 284, 280, 323, 331, 509, 536, 777, 102, 110]  # k = 50, d = 16

VECTORS = [
    ([0, 0, 0, 0, 0, 1, 1, 2], 3, [0, 3], 0, [5, 2, 1], 0),
    ([0, 0, 1, 0, 0, 0, 1, 0, 2, 0, 0, 0], 3, [0, 5], 0, [9, 2, 1], 1),
    ([1] * 9 + [0] * 3, 2, [0, 4, 7], 1, [3, 9], 0),
    ([0, 0, 0, 0, 1, 1], 2, [0], 0, [4, 2], 1),
    ([0] * 6 + [1, 1, 1, 2, 0, 0, 0, 0, 1, 0], 3, [1, 6], 0, [11, 4, 1], 1),
]


@pytest.mark.parametrize(("ballot", "classes", "shifts", "prediction", "counts", "radius"), VECTORS)
def test_vectors(ballot, classes, shifts, prediction, counts, radius):
    several = np.array([ballot, ballot[::-1], ballot], np.int64)
    found = certify_finite(several, shifts, classes)
    assert [part[[0, 2]].tolist() for part in found] == [[prediction] * 2, [radius] * 2]
    assert count_votes(several, classes)[0].tolist() == counts


def rounds(scores: np.ndarray, shifts: list[int]) -> dict[str, int]:
    chosen, election = votes(scores), hold_election(scores)
    prediction, radius = certify_finite_runoff(scores, shifts)
    assert prediction.tolist() == election.winner.tolist()
    first, second = (
        finite_first_round(chosen, election, shifts),
        finite_second_round(scores, chosen, election, shifts),
    )
    found = {"prediction": prediction, "finalist": election.finalist, "R1": first, "R2": second, "radius": radius}
    return {name: int(value[0]) for name, value in found.items()}


def test_runoff_vector():
    a, b, c = [3, 2, 1], [1, 3, 2], [2, 1, 3]
    scores = np.array([[a, b, a, a, c, a, a, b, a, a, c, a]], np.float32)
    assert rounds(scores, [0, 5]) == {"prediction": 0, "finalist": 1, "R1": 3, "R2": 2, "radius": 1}
    assert [int(part[0]) for part in certify_finite(votes(scores), [0, 5], 3)] == [0, 1]


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(2, 7), st.integers(0, 4))
def test_one_shift_is_partition_aggregation(seed, k, classes, levels):
    stream = np.random.default_rng(seed)
    scores = stream.integers(0, levels + 1, (20, k, classes)).astype(np.float32)
    scores[..., stream.integers(classes)] += stream.choice([0, 0.5, 1.5])
    for shift in (0, int(stream.integers(k))):  # a rotation changes nothing
        found = certify_finite(votes(scores), [shift], classes)
        assert np.array_equal(found, certify_dpa(vote_counts(scores)))
        assert np.array_equal(certify_finite_runoff(scores, [shift]), certify_runoff(scores))


# ---- The formulas, one test point and one class at a time ----


def least_buckets(weights: list[int], target: int) -> float:
    """Least number of the largest weights that add up to the target, by sorting."""
    total, ordered = 0, sorted(weights, reverse=True)
    for number in range(len(weights) + 1):
        if total >= target:
            return number
        if number < len(weights):
            total += ordered[number]
    return float("inf")


def by_hand(scores: np.ndarray, shifts: list[int]) -> tuple[int, float, float, float]:
    """FA's prediction and radius, then R1 and R2 of FA+ROE, for scores [m, classes]."""
    m, classes = scores.shape
    f = scores.argmax(1).tolist()
    n = [f.count(j) for j in range(classes)]

    def weights(of) -> list[int]:
        return [sum(of(f[(h + s) % m]) for s in shifts) for h in range(m)]

    def alone(a: int, b: int) -> float:
        return least_buckets(weights(lambda v: 1 + (v == a) - (v == b)), n[a] - n[b] + (b > a))

    top = max(range(classes), key=lambda j: (n[j], -j))
    radius = min(alone(top, j) for j in range(classes) if j != top) - 1
    election = hold_election(scores[None])
    c, s = int(election.winner[0]), int(election.finalist[0])
    others = [j for j in range(classes) if j != c]
    gap = {j: n[c] - n[j] + (j > c) for j in others}
    first = float("inf")
    for a, b in combinations(others, 2):
        together = least_buckets(weights(lambda v: 1 + 2 * (v == c) - (v == a) - (v == b)), gap[a] + gap[b])  # noqa: B023
        first = min(first, max(alone(c, a), alone(c, b), together))
    second = float("inf")
    for j in others:
        prefer = [int(row[c] > row[j] or (row[c] == row[j] and c < j)) for row in scores]
        win = least_buckets(
            [2 * sum(prefer[(h + t) % m] for t in shifts) for h in range(m)], 2 * sum(prefer) - m + (j > c)
        )
        second = min(second, max(0 if j == s else alone(s, j), win))
    return top, radius, first, second


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 24), st.integers(2, 6), st.integers(1, 9))
def test_certificates_are_the_formulas(seed, m, classes, d):
    stream = np.random.default_rng(seed)
    shifts = stream.choice(m, min(d, m), replace=False)
    scores = stream.integers(0, 4, (3, m, classes)).astype(np.float32)
    scores[..., stream.integers(classes)] += stream.choice([0, 0.5, 1.5])
    chosen, election = votes(scores), hold_election(scores)
    found = zip(
        *certify_finite(chosen, shifts, classes),
        finite_first_round(chosen, election, shifts),
        finite_second_round(scores, chosen, election, shifts),
        strict=True,
    )
    for point, (prediction, radius, first, second) in zip(scores, found, strict=True):
        expected = by_hand(point, shifts.tolist())
        assert (prediction, radius, first if first < INFINITE else float("inf"), second) == expected


def test_many_shifts_do_not_overflow():
    stream = np.random.default_rng(0)
    shifts = stream.choice(260, 130, replace=False)  # 3·d does not fit a byte
    scores = stream.standard_normal((2, 260, 3))
    scores[..., 1] += 1
    chosen, election = votes(scores), hold_election(scores)
    for i in range(2):
        expected = by_hand(scores[i], shifts.tolist())
        first = finite_first_round(chosen, election, shifts)[i]
        second = finite_second_round(scores, chosen, election, shifts)[i]
        assert (*(int(part[i]) for part in certify_finite(chosen, shifts, 3)), first, second) == expected


@given(st.integers(0, 2**32 - 1), st.integers(-3, 40))
def test_buckets_are_counted_as_if_they_were_sorted(seed, target):
    weights = np.random.default_rng(seed).integers(0, 5, (6, 7)).astype(np.uint8)
    found = buckets_needed(weights, 4, np.full(6, target)).tolist()
    expected = [least_buckets(row.tolist(), target) for row in weights]
    assert found == [number if number < float("inf") else INFINITE for number in expected]


def test_rows_are_independent_of_the_working_block(monkeypatch):
    scores = np.random.default_rng(0).integers(0, 5, (101, 9, 4)).astype(np.float32)
    whole = certify_finite(votes(scores), [0, 2, 5], 4), certify_finite_runoff(scores, [0, 2, 5])
    monkeypatch.setattr("mithridate.certify.buckets.CELLS", 1)
    assert np.array_equal(
        (certify_finite(votes(scores), [0, 2, 5], 4), certify_finite_runoff(scores, [0, 2, 5])), whole
    )


def test_the_order_of_columns_matters_but_not_where_the_circle_begins():
    shifts, scores = [0, 1, 2, 3], np.random.default_rng(3).standard_normal((500, 20, 5))
    scores[..., 0] += 1
    turned, mixed = np.roll(scores, 5, axis=1), scores[:, np.random.default_rng(4).permutation(20)]
    for certify in (lambda x: certify_finite(votes(x), shifts, 5), lambda x: certify_finite_runoff(x, shifts)):
        assert np.array_equal(certify(turned), certify(scores))
        assert np.array_equal(certify(mixed)[0], certify(scores)[0])
        assert not np.array_equal(certify(mixed)[1], certify(scores)[1])


# ---- The adversary: any r buckets, and every classifier that they reach says whatever he likes ----


def votes_needed(ballot: list[int], classes: int, shifts: list[int]) -> int:
    """Least number of buckets that change the plurality vote, by trying every set of buckets and every vote."""
    m = len(ballot)

    def winner(counts) -> int:
        return max(range(classes), key=lambda j: (counts[j], -j))

    own = winner([ballot.count(j) for j in range(classes)])
    for r in range(1, m + 1):
        for buckets in combinations(range(m), r):
            touched = reach(buckets, shifts, m)
            kept = [v for v, gone in zip(ballot, touched, strict=True) if not gone]
            for said in combinations_with_replacement(range(classes), int(touched.sum())):
                if winner([(*kept, *said).count(j) for j in range(classes)]) != own:
                    return r
    return m + 1


def disjoint_attack(ballot: list[int], classes: int, shifts: list[int], r: int) -> bool:
    """Whether r buckets that reach no classifier in common have weights that add up to more than some Δ."""
    m, n = len(ballot), [ballot.count(j) for j in range(classes)]
    c = max(range(classes), key=lambda j: (n[j], -j))
    for buckets in combinations(range(m), r):
        reached = [(h + s) % m for h in buckets for s in shifts]
        if len(set(reached)) == len(reached):
            for j in set(range(classes)) - {c}:
                weight = sum(1 + (ballot[i] == c) - (ballot[i] == j) for i in reached)
                if weight > n[c] - n[j] - (j < c):
                    return True
    return False


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(2, 4), st.integers(1, 3))
def test_votes_certificate_is_sound_and_exact_without_overlap(seed, m, classes, d):
    stream = np.random.default_rng(seed)
    shifts = stream.choice(m, min(d, m), replace=False).tolist()
    favoured = stream.integers(classes)
    ballot = np.where(stream.random(m) < stream.random(), favoured, stream.integers(0, classes, m)).tolist()
    (prediction,), (radius,) = certify_finite(np.array([ballot]), shifts, classes)
    need = votes_needed(ballot, classes, shifts)
    assert prediction == max(range(classes), key=lambda j: (ballot.count(j), -j))
    assert need > radius >= 0
    if disjoint_attack(ballot, classes, shifts, int(radius) + 1):
        assert need == radius + 1
    if len(shifts) == 1:
        assert need == radius + 1


def test_an_adversary_may_need_a_bucket_more_where_buckets_overlap():
    """Any two buckets of this design have a classifier in common: they reach 9, and 18 is not more than Δ = 19, but the
    certificate counts 10 + 10."""
    ballot, shifts = np.array([[1] + [0] * 20]), [3, 6, 7, 12, 14]
    assert [int(part[0]) for part in certify_finite(ballot, shifts, 2)] == [0, 1]
    changes = [
        any(may_flip_votes(ballot, reach(buckets, shifts, 21), 2)[0] for buckets in combinations(range(21), r))
        for r in (1, 2, 3)
    ]
    assert changes == [False, False, True]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(
        [(5, 3, 2), (6, 3, 2), (7, 3, 2), (8, 3, 2), (6, 3, 3), (8, 3, 3), (4, 4, 2), (5, 4, 2), (6, 2, 2)]
    ),
    st.integers(1, 4),
)
def test_runoff_certificate_is_sound(seed, shape, levels):
    m, classes, d = shape
    stream = np.random.default_rng(seed)
    shifts = stream.choice(m, d, replace=False).tolist()
    scores = stream.integers(0, levels + 1, (1, m, classes)).astype(np.float32)
    scores[..., stream.integers(classes)] += stream.choice([0, 0.5, 1.5])
    (prediction,), (radius,) = certify_finite_runoff(scores, shifts)
    profile = pack(scores[0])
    assert prediction == elect(profile.sum(keepdims=True), classes, m)[0]
    for buckets in combinations(range(m), int(radius)):
        touched = reach(buckets, shifts, m)
        if touched.sum() <= 4 or classes < 4:
            assert not can_change_with(profile, classes, touched), (scores, shifts, buckets)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(6, 16), st.integers(3, 9), st.integers(2, 5))
def test_runoff_certificate_is_sound_against_every_bucket_of_larger_ensembles(seed, m, classes, d):
    """May_flip_runoff is exact (test_attack_bound), so that it stands in for the adversary."""
    stream = np.random.default_rng(seed)
    shifts = stream.choice(m, d, replace=False).tolist()
    scores = stream.standard_normal((6, m, classes))
    scores[..., :2] += stream.random((6, m, 2)) * stream.integers(0, 5, 2)
    _, radii = certify_finite_runoff(scores, shifts)
    for r in range(1, min(3, int(radii.max())) + 1):
        for buckets in combinations(range(m), r):
            assert not may_flip_runoff(scores[radii >= r], reach(buckets, shifts, m)).any()


def test_a_class_ahead_of_the_winner_can_give_votes_away():
    """Why R1 adds the gaps as they are: the other finalist is ahead of the winner by 11 votes, and one bucket takes three
    of these and one of the winner's for a third class. With its gap counted as 0, R1 would be 2 and the radius 1."""
    row = [1, 1] + 4 * [0, 1, 1, 1] + [0, 1, 1] + list(range(2, 21))
    scores = np.tile(-np.arange(21.0), (1, 40, 1))
    for i, vote in enumerate(row):
        scores[0, i, 0] = 0 if vote == 0 else -200 if vote == 1 else 50
        scores[0, i, vote] = 100
    shifts = [0, 1, 2, 3]
    assert rounds(scores, shifts) == {"prediction": 0, "finalist": 1, "R1": 1, "R2": 2, "radius": 0}
    attacked = scores.copy()
    attacked[0, :4] = 0
    attacked[0, :4, 20] = 1
    assert hold_election(attacked).winner[0] == 1


# ---- Bad input ----

BALLOTS = np.array([[0, 1, 1, 2, 0]])


@pytest.mark.parametrize(
    ("shifts", "message"),
    [
        ([], "a list of integers is needed"),
        ([0.5], "a list of integers is needed"),
        ([[0, 1]], "a list of integers is needed"),
        ([0, 0], r"not distinct numbers in 0\.\.4"),
        ([0, 5], r"not distinct numbers in 0\.\.4"),
        ([-1, 0], r"not distinct numbers in 0\.\.4"),
    ],
)
def test_bad_shifts_are_refused(shifts, message):
    with pytest.raises(InputError, match=message):
        certify_finite(BALLOTS, shifts, 3)
    with pytest.raises(InputError, match=message):
        certify_finite_runoff(np.eye(3)[BALLOTS], shifts)


@pytest.mark.parametrize(
    ("ballots", "classes", "message"),
    [
        (BALLOTS, 2, "classifier 3 votes for class 2 at test image 0"),
        (BALLOTS - 1, 3, "classifier 0 votes for class -1 at test image 0"),
        (BALLOTS / 1, 3, "float64 of shape"),
        (BALLOTS[0], 3, r"shape \(5,\)"),
        (BALLOTS[:, :0], 3, r"shape \(1, 0\)"),
        (0 * BALLOTS, 1, "1 class"),
    ],
)
def test_bad_votes_are_refused(ballots, classes, message):
    with pytest.raises(InputError, match=message):
        certify_finite(ballots, [0, 1], classes)


def test_one_class_is_refused():
    with pytest.raises(InputError, match="at least two classes"):
        certify_finite_runoff(np.ones((2, 3, 1)), [0, 1])
