"""Tables of smoothed classifiers: certified accuracy, average certified radius, and the verdict on its fall."""

import numpy as np
import pandas as pd
import pytest

from mithridate.certify.intervals import clopper_pearson
from mithridate.certify.smoothing_table import Drop, acr_drop, average_certified_radius, curve
from mithridate.errors import InputError


def table(radius, correct, index=None) -> pd.DataFrame:
    n = len(radius)
    return pd.DataFrame(
        {"index": np.arange(n) if index is None else index, "label": 0, "radius": radius, "correct": correct}
    )


def test_the_curve_counts_images_predicted_right_with_at_least_the_radius():
    found = curve(table([0, 0.5, 0.5, 1, 2.0], [True, True, False, True, True]), [1, 0, 0.5, 3], 0.95)
    assert list(found) == [
        *("radius", "certified_accuracy", "ci_low", "ci_high"),
        *("bootstrap_low", "bootstrap_high", "n_test"),
    ]
    assert found["certified_accuracy"].tolist() == [0.4, 0.8, 0.6, 0]
    low, high = clopper_pearson(np.array([2, 4, 3, 0]), 5, 0.95)
    assert (found["ci_low"].tolist(), found["ci_high"].tolist()) == (low.tolist(), high.tolist())
    assert found["bootstrap_high"].tolist()[3] == 0
    with pytest.raises(InputError, match="curve needs"):
        curve(table([], []), [0], 0.95)
    with pytest.raises(InputError, match="curve needs"):
        curve(table([1], [True]), [-1], 0.95)


def test_bootstrap_intervals_are_those_of_large_samples():
    draws = np.random.default_rng(1)
    radius, correct = draws.gamma(2, 0.4, 1500), draws.random(1500) < 0.8
    average = average_certified_radius(table(radius, correct), 0.95)
    credited = radius * correct
    half = 1.96 * credited.std() / np.sqrt(1500)
    assert average.value == pytest.approx(credited.mean())
    assert (average.low, average.high) == pytest.approx((average.value - half, average.value + half), abs=0.1 * half)
    first = curve(table(radius, correct), [0.5], 0.95).iloc[0]
    assert first["bootstrap_low"] == pytest.approx(first["ci_low"], abs=0.004)
    assert first["bootstrap_high"] == pytest.approx(first["ci_high"], abs=0.004)


def networks(levels: list[float], n: int = 200, seed: int = 0) -> dict[int, pd.DataFrame]:
    """One table per training seed, whose radii are about `levels`; the same hard and easy images for all."""
    hardness = np.random.default_rng(seed).gamma(2, 0.5, n)
    return {number: table(level * hardness, np.ones(n, bool)) for number, level in enumerate(levels)}


@pytest.mark.parametrize(
    ("poisoned", "verdict"),
    [([0.3, 0.32, 0.28], "holds"), ([0.9, 1.0, 0.95], "does not hold"), ([0.8, 0.6, 0.7], "undecided")],
)
def test_the_verdict_on_the_claimed_drop(poisoned, verdict):
    found = acr_drop(networks([1, 1.02, 0.98]), networks(poisoned))
    assert found.drop == pytest.approx(1 - np.mean(poisoned))
    assert found.low <= found.drop <= found.high
    assert (found.verdict, found.seeds, found.n_test) == (verdict, 3, 200)


def test_images_are_paired_and_so_cancel():
    """Every radius falls by 40 %: resampling images cannot move the drop, however they differ."""
    found = acr_drop(networks([1, 1]), networks([0.6, 0.6]))
    assert (found.low, found.high) == pytest.approx((0.4, 0.4))
    unpaired = acr_drop(networks([1, 1]), networks([0.6, 0.6], seed=1))
    assert unpaired.high - unpaired.low > 0.1


def test_two_seeds_show_both_and_one_shows_nothing():
    found = acr_drop(networks([1, 1]), networks([0.5, 0.6]))
    assert (found.low, found.high) == pytest.approx((0.4, 0.5))
    assert acr_drop(networks([1]), networks([0.1])).verdict == "undecided"


def test_the_threshold_and_the_random_numbers_are_arguments():
    clean, poisoned = networks([1, 1.1]), networks([0.5, 0.56], seed=1)
    found = acr_drop(clean, poisoned)
    assert found == acr_drop(clean, poisoned)
    assert found != acr_drop(clean, poisoned, seed=1)
    assert acr_drop(clean, poisoned, threshold=0.9).verdict == "does not hold"
    narrow = acr_drop(clean, poisoned, 0.5)
    assert found.low < narrow.low < narrow.high < found.high


def test_the_order_of_rows_does_not_matter():
    clean, poisoned = networks([1, 1.1]), networks([0.5, 0.56])
    assert acr_drop(clean, {s: rows.sample(frac=1, random_state=s) for s, rows in poisoned.items()}) == acr_drop(
        clean, poisoned
    )


def test_certificates_that_vanish_are_a_drop_and_none_to_begin_with_is_refused():
    gone = {0: table([0.0, 0.0], [False, False]), 1: table([0.0, 0.0], [False, False])}
    some = {0: table([1.0, 0.0], [True, False]), 1: table([1.0, 0.0], [True, False])}
    found = acr_drop(some, gone)
    assert isinstance(found, Drop)
    assert (found.drop, found.low, found.high) == (1, 0, 1)  # resamples without a certified image show no drop
    with pytest.raises(InputError, match="no test image"):
        acr_drop(gone, some)


@pytest.mark.parametrize(
    ("clean", "poisoned", "message"),
    [
        (networks([1, 1]), networks([1]), r"seeds \[0, 1\], poisoned ones \[0\]"),
        ({}, {}, "seeds"),
        (networks([1]), networks([1], n=100), "other test images"),
        ({0: table([1.0], [True])}, {0: table([1.0], [True], [5])}, "other test images"),
        ({0: table([], [])}, {0: table([], [])}, "needs test images"),
    ],
)
def test_tables_that_cannot_be_compared_are_refused(clean, poisoned, message):
    with pytest.raises(InputError, match=message):
        acr_drop(clean, poisoned)
