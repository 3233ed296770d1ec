"""Bounds that hold at all times, and certification that stops early: the errors they promise, by exact computation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from mithridate.certify.anytime import Sequential, anytime_bound, log_evidence, sequential_rows
from mithridate.certify.smoothing import ABSTAIN, certified_radius, largest_radius, probability_bound
from mithridate.errors import InputError

ALPHA = 1e-3


def test_evidence_is_the_integral():
    q = np.linspace(0.7, 1, 200_001)[1:-1]
    for hits, n in ((0, 0), (3, 3), (8, 10), (2, 9)):
        ratio = (q / 0.7) ** hits * ((1 - q) / 0.3) ** (n - hits)
        assert log_evidence(hits, n, 0.7) == pytest.approx(np.log(ratio.mean()), abs=1e-4)


@given(st.integers(1, 3000), st.floats(1e-6, 0.3), st.data())
@settings(max_examples=50)
def test_the_anytime_bound_is_where_the_evidence_suffices(n, alpha, data):
    hits = data.draw(st.integers(0, n))
    bound = float(anytime_bound(hits, n, alpha))
    grid = np.linspace(0, 1, 1001)[1:-1]
    assert ((log_evidence(hits, n, grid) >= -np.log(alpha)) == (grid <= bound)).all()
    assert bound <= probability_bound(hits, n, alpha) + 1e-12  # what holds at all times holds at one
    assert bound <= hits / n


def chances(rule: Sequential, p: float) -> dict[int, float]:
    """Probability of each decision for a true probability p with a look after every draw, by exact computation."""
    alive, found = np.array([1.0]), {1: 0.0, -1: 0.0}
    for n in range(1, rule.n + 1):
        alive = np.append(alive * (1 - p), 0) + np.insert(alive * p, 0, 0)
        decision = rule.decided(np.arange(n + 1), n)
        for which in found:
            found[which] += alive[decision == which].sum()
        alive[decision != 0] = 0
    assert alive.sum() == 0
    return found


@pytest.mark.parametrize(("radius", "alpha"), [(0, 0.1), (0, 0.01), (0.5, 0.1), (1.5, 0.01)])
def test_sequential_certification_errs_with_probability_alpha_at_most(radius, alpha):
    rule = Sequential(n=300, sigma=1, alpha=alpha, radius=radius)
    for below in (0, 0.05):
        assert chances(rule, rule.probability - below)[1] <= alpha
    assert chances(rule, rule.probability)[1] > alpha / 10  # and it uses what it may
    almost = chances(rule, 1 - (1 - rule.probability) / 5)
    assert almost[1] > 0.9
    assert sum(almost.values()) == pytest.approx(1)


def test_the_same_by_simulation_with_every_bound_on_the_way():
    """True probability 0.8; all images at once, a look after every draw."""
    alpha, p, draws = 0.05, 0.8, 500
    hits = (np.random.default_rng(3).random((1000, draws)) < p).cumsum(1)
    n = np.arange(1, draws + 1)
    crossed = (log_evidence(hits, n, p) >= -np.log(alpha)).any(1).mean()
    assert crossed <= alpha
    assert crossed > alpha / 10
    rule = Sequential(n=draws, sigma=1, alpha=alpha)
    some = np.array([1, 2, 5, 10, 20, 50, 100, 200, 500]) - 1
    radius = rule.certified_radius(hits[:, some], n[some])
    assert (np.fmax(radius, 0) > norm.ppf(p)).any(1).mean() <= alpha


def test_with_many_draws_the_bound_is_a_known_factor_wider_than_clopper_pearson():
    """Laplace: n·KL(p̂, p) = ln((1−p)/α · sqrt(n / 2πp̂(1−p̂))) at the bound p, against z² / 2."""
    for p, n in ((0.6, 10**6), (0.9, 10**6), (0.9, 10**8)):
        hits = int(p * n)
        deviation = np.sqrt(p * (1 - p) / n)
        width = (p - float(anytime_bound(hits, n, ALPHA))) / deviation
        known = np.sqrt(2 * np.log((1 - p) / ALPHA / (deviation * np.sqrt(2 * np.pi))))
        assert width == pytest.approx(known, rel=0.02)
        fixed = (p - float(probability_bound(hits, n, ALPHA))) / deviation
        assert fixed == pytest.approx(norm.isf(ALPHA), rel=0.02)
        assert 1.3 < width / fixed < 2


def test_sure_images_stop_after_a_handful_and_hopeless_ones_early():
    rule = Sequential(n=10_000, sigma=0.5, alpha=ALPHA)
    n = np.arange(1, 10_001)
    assert n[rule.decided(n, n) == 1][0] == 14
    assert n[rule.decided(0 * n, n) == -1][0] < 20
    assert n[rule.decided(7 * n // 10, n) == 1][0] < 200
    assert n[rule.decided(3 * n // 10, n) == -1][0] < 200
    far = Sequential(n=10_000, sigma=0.5, alpha=ALPHA, radius=1)
    first = n[far.decided(n, n) == 1][0]
    assert 100 < first < 1000
    assert far.certified_radius(first, first) >= 1


def test_after_the_last_draw_everything_is_decided_as_clopper_pearson_does_at_half_of_alpha():
    for radius in (0, 0.7):
        rule = Sequential(n=500, sigma=1, alpha=0.02, radius=radius)
        n_a = np.arange(501)
        certified = certified_radius(n_a, 500, 1, 0.01)
        expected = np.where(np.nan_to_num(certified, nan=-1) >= radius, 1, -1)
        assert rule.decided(n_a, 500).tolist() == expected.tolist()
        np.testing.assert_array_equal(rule.certified_radius(n_a, 500), certified)


def test_an_image_is_given_up_when_draws_to_come_cannot_help():
    rule = Sequential(n=100, sigma=1, alpha=0.02)
    missed = 100 - rule.needed + 1
    assert rule.decided(60 - missed, 60) == -1
    assert rule.decided(61 - missed, 60) == 0


def test_rows_of_images_that_stopped_at_different_times():
    rule = Sequential(n=1000, sigma=1, alpha=0.02)
    n_a, n = np.array([40, 10, 530]), np.array([40, 40, 1000])
    rows = sequential_rows(rule, np.array([1, 1, 0]), n_a, n, np.array([1, 1, 0]), np.arange(3))
    assert rows["prediction"].tolist() == [1, ABSTAIN, ABSTAIN]
    assert rows["n"].tolist() == n.tolist()
    assert rows["radius"].tolist() == [float(rule.certified_radius(40, 40)), 0, 0]
    assert 1 < rows["radius"][0] < largest_radius(40, 1, 0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sequential(n=5, sigma=1, alpha=0.001), "N = 5 certifies nothing"),
        (lambda: Sequential(n=100, sigma=1, alpha=0.001, radius=2), r"at radius 2: the largest with N = 100 is 1\.4"),
        (lambda: Sequential(n=100, sigma=1, alpha=0.001, radius=-1), "radius = -1"),
        (lambda: Sequential(n=100, sigma=0, alpha=0.001), "sigma = 0"),
        (lambda: Sequential(n=100, sigma=1, alpha=0), "alpha = 0"),
        (lambda: anytime_bound(3, 4, 0.5), "below 0.36"),
        (lambda: anytime_bound(5, 4, 0.01), "0 <= n_a <= n"),
    ],
)
def test_impossible_sequential_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
