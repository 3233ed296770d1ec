"""The collective certificate against every choice of partitions, with and without the solver, whole and in chunks."""

import os
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.optimize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mithridate.certify.aggregation import certify_dpa, count_votes, vote_counts
from mithridate.certify.collective import Collective, certify_collective, collective
from mithridate.certify.joint_attack import find_targets, rises, search_attack, silent_output, solve, try_all_attacks
from mithridate.errors import InputError


@pytest.fixture
def no_enumeration(monkeypatch) -> None:
    """All attacks are not tried even where there are few."""
    monkeypatch.setattr("mithridate.certify.collective.FEW", 0)


@pytest.fixture
def solver(monkeypatch, no_enumeration) -> None:
    """The solver decides everything: no attack is found beforehand either."""
    monkeypatch.setattr("mithridate.certify.collective.search_attack", lambda targets: 0)


def ensemble(seed: int, n: int, k: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Votes and labels of points of uneven difficulty, some of them predicted wrong."""
    stream = np.random.default_rng(seed)
    labels = stream.integers(0, classes, n)
    right = stream.random((n, k)) < stream.uniform(0.2, 1, (n, 1))
    return np.where(right, labels[:, None], stream.integers(0, classes, (n, k))), labels


def flipped(ballots: np.ndarray, labels: np.ndarray, classes: int, hit: tuple[int, ...]) -> int:
    """How many right predictions can differ once these partitions are the attacker's, from the definition."""
    counts = count_votes(ballots, classes)
    kept = count_votes(np.delete(ballots, hit, axis=1), classes)
    lost = 0
    for n, left, label in zip(counts, kept, labels, strict=True):
        c = int(n.argmax())
        outcomes = {int((left + len(hit) * np.eye(classes, dtype=int)[j]).argmax()) for j in range(classes)}
        lost += c == label and outcomes != {c}
    return lost


def brute_force(ballots: np.ndarray, labels: np.ndarray, classes: int, r: int) -> int:
    k = ballots.shape[1]
    return max(flipped(ballots, labels, classes, hit) for hit in combinations(range(k), min(r, k)))


def certified(ballots: np.ndarray, labels: np.ndarray, classes: int, r: int) -> float:
    """Point-wise certified accuracy."""
    prediction, radius = certify_dpa(count_votes(ballots, classes))
    return float(((prediction == labels) & (radius >= r)).mean())


SMALL = (st.integers(0, 2**32 - 1), st.integers(1, 10), st.integers(1, 7), st.integers(2, 4))
BRIEF = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@BRIEF
@given(*SMALL)
def test_trying_all_attacks_is_the_definition(seed, n, k, classes):
    ballots, labels = ensemble(seed, n, k, classes)
    right = int((count_votes(ballots, classes).argmax(1) == labels).sum())
    for found in collective(ballots, labels, classes, range(k + 2)):
        flips = brute_force(ballots, labels, classes, found.radius)
        assert (found.flips, found.accuracy, found.limited) == (flips, (right - flips) / n, 0)
        assert certify_collective(ballots, labels, classes, found.radius) == found.accuracy


@pytest.mark.parametrize("how", ["solver", "no_enumeration"])
@BRIEF
@given(*SMALL, st.booleans())
def test_the_solver_finds_the_same_where_one_chunk_holds_all(request, how, seed, n, k, classes, twins):
    request.getfixturevalue(how)
    ballots, labels = ensemble(seed, n, k, classes)
    if twins:
        ballots = np.repeat(ballots[:, : (k + 1) // 2], 2, axis=1)  # partitions that do the same
    for found in collective(ballots, labels, classes, range(1, ballots.shape[1] + 1), chunk=n):
        assert found.flips == brute_force(ballots, labels, classes, found.radius)
        assert found.limited == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_solver_agrees_with_all_attacks_on_twelve_partitions(seed):
    ballots, _ = ensemble(seed, 25, 12, 4)
    counts = count_votes(ballots, 4)
    targets = find_targets(ballots, counts, counts.argmax(1), 4)
    assert solve(targets, 10_000, 60) == (try_all_attacks(targets), False)


@BRIEF
@given(*SMALL, st.integers(1, 4))
def test_chunks_only_loosen_and_never_fall_below_the_point_wise_certificate(solver, seed, n, k, classes, chunk):
    ballots, labels = ensemble(seed, n, k, classes)
    radii = range(k + 1)
    whole, parts = (collective(ballots, labels, classes, radii, chunk=size) for size in (n, chunk))
    for one, other in zip(whole, parts, strict=True):
        assert certified(ballots, labels, classes, one.radius) <= other.accuracy <= one.accuracy
    singles = collective(ballots, labels, classes, radii, chunk=1)
    assert [one.accuracy for one in singles] == [certified(ballots, labels, classes, r) for r in radii]


@BRIEF
@given(*SMALL)
def test_accuracy_falls_with_the_radius_and_order_does_not_matter(solver, seed, n, k, classes):
    ballots, labels = ensemble(seed, n, k, classes)
    found = collective(ballots, labels, classes, range(k + 2), chunk=3)
    accuracies = [one.accuracy for one in found]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] == (count_votes(ballots, classes).argmax(1) == labels).mean()
    assert collective(ballots, labels, classes, range(k + 2)[::-1], chunk=3) == found[::-1]
    stream = np.random.default_rng(seed)
    order, columns = stream.permutation(n), stream.permutation(k)
    mixed = collective(ballots[order][:, columns], labels[order], classes, range(k + 2), chunk=n)
    assert mixed == collective(ballots, labels, classes, range(k + 2), chunk=n)


@pytest.mark.parametrize("limits", [{"nodes": 1}, {"seconds": 1e-9}, {"nodes": 1, "seconds": 1e-9, "chunk": 40}])
def test_any_limit_is_sound(limits):
    ballots, labels = ensemble(1, 60, 24, 4)
    for found in collective(ballots, labels, 4, [6, 9], **limits):
        stream = np.random.default_rng(0)
        for _ in range(200):
            hit = tuple(stream.choice(24, found.radius, replace=False))
            assert flipped(ballots, labels, 4, hit) <= found.flips
        assert found.accuracy >= certified(ballots, labels, 4, found.radius)
    if "seconds" in limits:
        assert found.limited > 0


def test_larger_ensembles_are_bounded_usefully_and_the_same_every_time():
    ballots, labels = ensemble(2, 80, 26, 5)
    found = collective(ballots, labels, 5, [1, 3, 5, 8])
    assert collective(ballots, labels, 5, [1, 3, 5, 8]) == found
    gains = [one.accuracy - certified(ballots, labels, 5, one.radius) for one in found]
    assert min(gains) >= 0
    assert max(gains) > 0.02
    assert [one.limited for one in found] == [0] * 4
    single = [certify_collective(ballots, labels, 5, one.radius) for one in found]
    assert all(alone <= one.accuracy for alone, one in zip(single, found, strict=True))


@BRIEF
@given(*SMALL)
def test_the_programme_excludes_no_attack(seed, n, k, classes):
    """Every attack satisfies every row: flipped by a pair, the surplus of each pair of the point has risen."""
    ballots, _ = ensemble(seed, n, k, classes)
    counts = count_votes(ballots, classes)
    for hits in range(1, k + 1):
        targets = find_targets(ballots, counts, counts.argmax(1), hits)
        rise = rises(targets)
        for hit in combinations(range(k), hits):
            surplus = targets.gains[:, hit].sum(1, dtype=int)
            assert (surplus >= targets.least).all()
            for pair in np.flatnonzero(surplus >= targets.need):
                assert (surplus >= targets.least + rise[:, pair]).all()


@BRIEF
@given(*SMALL)
def test_the_search_never_claims_more_than_there_is(seed, n, k, classes):
    ballots, _ = ensemble(seed, n, k, classes)
    counts = count_votes(ballots, classes)
    for hits in range(1, k + 1):
        targets = find_targets(ballots, counts, counts.argmax(1), hits)
        most = try_all_attacks(targets)
        if len(targets.of):
            assert search_attack(targets) <= most <= solve(targets, 10, 60)[0]
        else:
            assert search_attack(targets) == most == targets.always.sum()


# ---- What the solver says is not taken at its word ----


def answers(monkeypatch, status: int, bound: float | None) -> None:
    monkeypatch.setattr(
        scipy.optimize, "milp", lambda *_, **__: SimpleNamespace(status=status, mip_dual_bound=bound, fun=None, x=None)
    )


@pytest.mark.parametrize(("status", "bound"), [(1, None), (1, -np.inf), (1, np.nan), (2, -3.0), (3, -3.0), (4, None)])
def test_without_a_bound_the_whole_chunk_is_lost(monkeypatch, no_enumeration, status, bound):
    answers(monkeypatch, status, bound)
    ballots, labels = ensemble(1, 60, 24, 4)
    (found,) = collective(ballots, labels, 4, [6], chunk=7)
    assert found.accuracy == certified(ballots, labels, 4, 6)
    assert 0 < found.limited <= found.chunks


def conflict() -> tuple[np.ndarray, np.ndarray]:
    """Three points that rest on different partitions: one attack of size 2 can flip any of them, but not all three."""
    ballots = np.array([[0, 0, 0, 0, 1, 2], [1, 2, 0, 0, 0, 0], [0, 0, 1, 2, 0, 0]])
    return ballots, np.zeros(3, int)


def test_one_attack_cannot_flip_points_that_rest_on_other_partitions(solver):
    ballots, labels = conflict()
    assert certified(ballots, labels, 3, 2) == 0
    assert brute_force(ballots, labels, 3, 2) == 2
    assert collective(ballots, labels, 3, [2]) == [Collective(2, 1 / 3, 2, 1, 0, 3)]


@pytest.mark.parametrize(("bound", "flips"), [(-2.99999, 3), (-2.0, 2), (-1.99999, 2), (-2.001, 2), (-9.0, 3)])
def test_a_bound_is_rounded_to_the_integer_that_it_stands_for(monkeypatch, bound, flips):
    answers(monkeypatch, 0, bound)
    ballots, _ = conflict()
    counts = count_votes(ballots, 3)
    targets = find_targets(ballots, counts, counts.argmax(1), 2)
    assert not targets.always.any()
    assert solve(targets, 10, 1) == (flips, False)


def test_a_bound_below_an_attack_that_is_known_is_raised_to_it(monkeypatch, no_enumeration):
    ballots, labels = ensemble(1, 60, 24, 4)
    answers(monkeypatch, 0, -0.0)
    (found,) = collective(ballots, labels, 4, [6])
    monkeypatch.undo()
    assert found.flips > 0  # of every chunk what the search found
    assert found.flips <= collective(ballots, labels, 4, [6])[0].flips


def test_nothing_that_the_solver_prints_comes_through(capfd):
    with silent_output():
        os.write(1, b"left-over debugging\n")
    os.write(1, b"ours\n")
    assert capfd.readouterr().out == "ours\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"votes": np.zeros((3, 4))}, "float64 of shape"),
        ({"votes": np.full((3, 4), 3)}, "votes for class 3"),
        ({"labels": np.array([0, 1, 3])}, "label of test image 2"),
        ({"labels": np.array([0, 1])}, "labels have shape"),
        ({"num_classes": 1}, "1 class"),
        ({"radii": [1, -1]}, "radii"),
        ({"radii": []}, "radii"),
        ({"radii": [1.5]}, "radii"),
        ({"chunk": 0}, "chunk 0"),
        ({"nodes": 0}, "nodes 0"),
        ({"seconds": 0}, "seconds 0"),
        ({"seconds": float("nan")}, "seconds nan"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(change, message):
    good = {"votes": np.zeros((3, 4), int), "labels": np.array([0, 1, 2]), "num_classes": 3, "radii": [1]}
    with pytest.raises(InputError, match=message) as error:
        collective(**{**good, **change})
    assert "\n" not in str(error.value)


def test_votes_of_scores_are_what_it_takes():
    scores = np.random.default_rng(0).standard_normal((20, 9, 3))
    labels = vote_counts(scores).argmax(1)
    assert certify_collective(scores.argmax(2), labels, 3, 0) == 1
    assert certify_collective(scores.argmax(2).astype(np.uint16), labels, 3, 9) == 0
