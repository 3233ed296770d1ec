"""The smoothing certificate: check values, the error it promises, rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom, norm

from mithridate.certify.smoothing import (
    ABSTAIN,
    certified_radius,
    check_samples,
    example_rows,
    largest_radius,
    probability_bound,
)
from mithridate.errors import InputError

N, ALPHA = 100_000, 1e-3

# ---- The certificate ----


@pytest.mark.parametrize(
    ("n_a", "radius", "places"),
    [
        (100_000, 3.8115, 5e-5),
        (99_000, 2.2900, 5e-5),
        (90_000, 1.2648, 5e-5),
        (70_000, 0.5115, 5e-5),
        (50_490, 2.2e-5, 5e-7),
    ],
)
def test_check_values(n_a, radius, places):
    assert certified_radius(n_a, N, 1, ALPHA) == pytest.approx(radius, abs=places)
    assert certified_radius(n_a, N, 0.25, ALPHA) == pytest.approx(radius / 4, abs=places)


def test_it_abstains_where_the_bound_is_below_one_half():
    assert np.isnan(certified_radius(50_489, N, 1, ALPHA))
    assert np.isnan(certified_radius(np.array([0, 10, 50]), 100, 1, ALPHA)).all()


@given(st.integers(1, 2000), st.floats(1e-6, 0.4), st.floats(0.05, 3))
def test_the_radius_is_the_formula(n, alpha, sigma):
    n_a = np.arange(n + 1)
    p_a = np.where(n_a, beta.ppf(alpha, np.maximum(n_a, 1), n - n_a + 1), 0)
    np.testing.assert_allclose(probability_bound(n_a, n, alpha), p_a, rtol=1e-9)
    radius = certified_radius(n_a, n, sigma, alpha)
    np.testing.assert_allclose(radius, np.where(p_a >= 0.5, sigma * norm.ppf(p_a), np.nan), rtol=1e-6, atol=1e-9)
    assert (np.diff(radius[~np.isnan(radius)]) >= 0).all()


@pytest.mark.parametrize("n", [20, 200])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_the_error_stays_below_alpha_for_every_probability(n, alpha):
    n_a = np.arange(n + 1)
    radius = certified_radius(n_a, n, 1, alpha)
    for p in np.linspace(0.001, 0.999, 200):
        wrong = radius > max(0, norm.ppf(p)) + 1e-12 if p >= 0.5 else ~np.isnan(radius)
        assert binom.pmf(n_a[wrong], n, p).sum() <= alpha + 1e-12


def test_too_few_noises_are_refused_with_the_least_number():
    assert np.isnan(largest_radius(9, 1, ALPHA))
    assert largest_radius(N, 0.5, ALPHA) == pytest.approx(3.8115 / 2, abs=5e-5)
    with pytest.raises(InputError, match=r"N = 5 certifies nothing at alpha = 0.001: the least N is 10.*is 0\.0030"):
        check_samples(5, 1, ALPHA)
    for alpha in (0.05, 1e-6, 2.0**-10):
        with pytest.raises(InputError, match="least N"):
            check_samples(1, 1, alpha)
    check_samples(1, 1, 0.6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_a": -1}, "0 <= n_a <= n"),
        ({"n_a": [3, 11]}, "0 <= n_a <= n"),
        ({"n_a": np.nan}, "0 <= n_a <= n"),
        ({"n_a": 2.5}, "whole counts"),
        ({"n": 0, "n_a": 0}, "at least one noise"),
        ({"sigma": 0}, "sigma = 0"),
        ({"sigma": np.inf}, "sigma = inf"),
        ({"alpha": 0}, r"alpha = 0.*\(0, 1\)"),
        ({"alpha": 1}, r"alpha = 1.*\(0, 1\)"),
    ],
)
def test_bad_numbers_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        certified_radius(**{"n_a": 9, "n": 10, "sigma": 1, "alpha": 0.1, **change})


# ---- Rows ----

SETTING = {"sigma": 0.5, "alpha": 0.01}


def test_rows():
    selection = np.array([[1, 8, 1], [5, 5, 0], [0, 1, 9], [0, 9, 1]])
    estimation = np.array([[10, 85, 5], [90, 5, 5], [45, 0, 55], [98, 1, 1]])
    rows = example_rows(selection, estimation, np.array([1, 1, 2, 0]), np.array([7, 3, 9, 0]), **SETTING)
    assert list(rows) == ["index", "label", "prediction", "selected", "n_a", "n", "radius", "correct"]
    assert rows["index"].tolist() == [7, 3, 9, 0]
    assert rows["selected"].tolist() == [1, 0, 2, 1]  # selection alone chooses, at ties the smaller class
    assert rows["n_a"].tolist() == [85, 90, 55, 1]
    assert rows["prediction"].tolist() == [1, 0, ABSTAIN, ABSTAIN]
    assert rows["correct"].tolist() == [True, False, False, False]
    expected = certified_radius(np.array([85, 90]), 100, **SETTING)
    assert rows["radius"].tolist() == [*expected, 0, 0]
    assert set(rows["n"]) == {100}


GOOD = np.array([[8, 2], [3, 7]])


@pytest.mark.parametrize(
    ("selection", "estimation", "labels", "indices", "message"),
    [
        (GOOD[:, :1], GOOD[:, :1], [0, 1], [0, 1], r"selection counts are int64 of shape \(2, 1\)"),
        (GOOD, GOOD / 10, [0, 1], [0, 1], "estimation counts are float64"),
        (GOOD, GOOD[:1], [0, 1], [0, 1], "same test images"),
        (GOOD, np.array([[8, 2], [3, 8]]), [0, 1], [0, 1], "add up to 10 to 11"),
        (GOOD, np.array([[12, -2], [3, 7]]), [0, 1], [0, 1], "add up to"),
        (0 * GOOD, GOOD, [0, 1], [0, 1], "add up to 0"),
        (GOOD, GOOD // 8, [0, 1], [0, 1], "add up to"),
        (GOOD, np.array([[1, 1], [0, 2]]), [0, 1], [0, 1], "N = 2 certifies nothing"),
        (GOOD, GOOD, [0, 2], [0, 1], "label of test image 1"),
        (GOOD, GOOD, [0, 1], [4, 4], "once"),
        (GOOD, GOOD, [0, 1], [4], "once"),
    ],
)
def test_bad_counts_are_refused(selection, estimation, labels, indices, message):
    with pytest.raises(InputError, match=message):
        example_rows(selection, estimation, np.array(labels), np.array(indices), **SETTING)
