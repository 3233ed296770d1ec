"""Confidence intervals keep their promise, by exact computation."""

import numpy as np
import pytest
from scipy.stats import binom, kstwo

from mithridate.certify.intervals import clopper_pearson, dkw_half_width
from mithridate.errors import InputError

LEVELS = [0.9, 0.95, 0.999]


@pytest.mark.parametrize("confidence", LEVELS)
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_clopper_pearson_covers_every_proportion(n, confidence):
    successes = np.arange(n + 1)
    low, high = clopper_pearson(successes, n, confidence)
    for p in np.linspace(0, 1, 401):
        covered = (low <= p) & (p <= high)
        assert binom.pmf(successes[covered], n, p).sum() >= confidence - 1e-12


@pytest.mark.parametrize("confidence", LEVELS)
def test_clopper_pearson_is_no_wider_than_it_must_be(confidence):
    successes, n = np.arange(21), 20
    low, high = clopper_pearson(successes, n, confidence)
    half = (1 - confidence) / 2
    assert binom.sf(successes[1:] - 1, n, low[1:]) == pytest.approx(half)
    assert binom.cdf(successes[:-1], n, high[:-1]) == pytest.approx(half)


def test_clopper_pearson_at_the_ends():
    low, high = clopper_pearson(np.array([0, 10]), 10, 0.95)
    assert low[0] == 0
    assert high[1] == 1
    assert high[0] == pytest.approx(1 - 0.025**0.1)
    assert low[1] == pytest.approx(0.025**0.1)


def test_clopper_pearson_takes_one_n_per_proportion():
    low, high = clopper_pearson(np.array([3, 3]), np.array([10, 100]), 0.95)
    assert (low[0], high[0]) == clopper_pearson(3, 10, 0.95)
    assert (low[1], high[1]) == clopper_pearson(3, 100, 0.95)


@pytest.mark.parametrize("confidence", LEVELS)
@pytest.mark.parametrize("n", [2, 10, 100, 1000])
def test_dkw_band_covers_the_whole_distribution_function(n, confidence):
    half = dkw_half_width(n, confidence)
    assert kstwo.cdf(half, n) >= confidence
    if n >= 100:  # and it is no wider than it must be
        assert kstwo.cdf(0.95 * half, n) < confidence


def test_dkw_half_width_is_massarts():
    assert dkw_half_width(10_000, 0.95) == pytest.approx(0.0135810, abs=1e-7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clopper_pearson(11, 10, 0.95), "successes <= n"),
        (lambda: clopper_pearson(-1, 10, 0.95), "successes <= n"),
        (lambda: clopper_pearson(0, 0, 0.95), "n >= 1"),
        (lambda: clopper_pearson(1, 10, 1.0), "between 0 and 1"),
        (lambda: dkw_half_width(10, 95), "95"),
        (lambda: dkw_half_width(0, 0.95), "test image"),
    ],
)
def test_impossible_arguments_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
