"""RAB's certificate: check values, the error it promises, rows and curve."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom, norm

from mithridate.certify.intervals import clopper_pearson
from mithridate.certify.rab import BOUNDS, certified_radius, curve, example_rows, probability_bound, strength
from mithridate.errors import InputError

N, ALPHA = 1000, 1e-3


@pytest.mark.parametrize(("bound", "value"), [("clopper-pearson", 2.4633), ("hoeffding", 1.5652)])
def test_check_values_where_all_models_agree(bound, value):
    assert certified_radius(N, N, 1, ALPHA, num_classes=1, bound=bound) == pytest.approx(value, abs=5e-5)
    assert certified_radius(N, N, 0.5, ALPHA, num_classes=1, bound=bound) == pytest.approx(value / 2, abs=5e-5)
    assert (
        certified_radius(N, N, 1, ALPHA, bound=bound) < value
    )  # a class chosen on the same models costs half of alpha
    assert 1 - probability_bound(N, N, ALPHA, "hoeffding") == pytest.approx(0.05877, abs=5e-6)


def test_strengths():
    assert strength(np.full(200, 0.1)) == pytest.approx(1.4142, abs=5e-5)
    assert strength(np.ones(1266)) == pytest.approx(35.6, abs=0.05)
    assert strength(np.zeros(0)) == 0
    assert strength(np.array([3, 4])) == 5
    for bad in ([-1.0], [np.nan], [np.inf]):
        with pytest.raises(InputError, match="norms"):
            strength(np.array(bad))


@given(st.integers(1, 2000), st.floats(1e-6, 0.4), st.integers(1, 10), st.floats(0.05, 3))
def test_the_radius_is_the_formula(n, alpha, classes, sigma):
    n_a = np.arange(n + 1)
    level = alpha / classes
    exact = np.where(n_a, beta.ppf(level, np.maximum(n_a, 1), n - n_a + 1), 0)
    hoeffding = n_a / n - np.sqrt(np.log(1 / level) / (2 * n))
    for bound, p_a in zip(BOUNDS, (exact, hoeffding), strict=True):
        radius = certified_radius(n_a, n, sigma, alpha, classes, bound)
        expected = sigma / 2 * (norm.ppf(np.clip(p_a, 1e-12, 1)) - norm.ppf(np.clip(1 - p_a, 0, 1 - 1e-12)))
        np.testing.assert_allclose(radius, np.where(p_a > 0.5, expected, 0), rtol=1e-6, atol=1e-9)
        assert (np.diff(radius) >= 0).all()
    assert (exact >= hoeffding - 1e-12).all()  # exact is the tighter one


def test_nothing_is_certified_for_a_minority():
    for bound in BOUNDS:
        assert certified_radius(np.arange(501), N, 1, ALPHA, bound=bound).tolist() == [0] * 501
    assert certified_radius(1, 1, 1, ALPHA) == 0  # one model says nothing at this level


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(("p", "classes"), [(0.5, 2), (0.8, 2), (0.95, 2), (0.5, 3), (0.4, 4)])
def test_the_error_stays_below_alpha(bound, p, classes):
    """An error: some class is predicted with a radius above the one that its true probability allows. Simulated at a
    level at which it can be seen."""
    alpha, models, trials = 0.05, 200, 40_000
    truth = np.array([p, *[(1 - p) / (classes - 1)] * (classes - 1)])
    counts = np.random.default_rng(7).multinomial(models, truth, trials)
    predicted = counts.argmax(1)
    radius = certified_radius(counts.max(1), models, 1, alpha, classes, bound)
    error = (radius > np.maximum(0, norm.ppf(truth[predicted])) + 1e-12).mean()
    deviation = np.sqrt(alpha * (1 - alpha) / trials)
    assert error <= alpha - 3 * deviation, error


def test_a_class_chosen_on_the_same_models_errs_more_often_unless_alpha_is_split():
    """At true probability 1/2 every certificate is an error; the number of votes is binomial."""
    votes = np.arange(N + 1)
    chance = binom.pmf(votes, N, 0.5)
    error = {
        classes: chance[certified_radius(np.maximum(votes, N - votes), N, 1, ALPHA, classes) > 0].sum()
        for classes in (1, 2)
    }
    assert error[1] == pytest.approx(0.00173, abs=5e-6)
    assert error[2] <= ALPHA
    fixed = chance[certified_radius(votes, N, 1, ALPHA, 1) > 0].sum()  # a class named beforehand needs no split
    assert fixed <= ALPHA


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_a": -1}, r"0\.\.n = 10"),
        ({"n_a": [3, 11]}, r"0\.\.n = 10"),
        ({"n_a": np.nan}, r"0\.\.n = 10"),
        ({"n_a": 2.5}, "counts votes"),
        ({"n": 0, "n_a": 0}, "at least one model"),
        ({"sigma": 0}, "sigma = 0"),
        ({"sigma": np.inf}, "sigma = inf"),
        ({"alpha": 0}, "0 < alpha < 1"),
        ({"alpha": 1, "num_classes": 1}, "0 < alpha < 1"),
        ({"num_classes": 0}, "num_classes = 0"),
        ({"bound": "wald"}, "'wald' is unknown"),
    ],
)
def test_bad_numbers_are_refused(change, message):
    good = {"n_a": 9, "n": 10, "sigma": 1, "alpha": 0.1}
    with pytest.raises(InputError, match=message):
        certified_radius(**{**good, **change})
    assert certified_radius(2.5, 10, 1, 0.1, bound="hoeffding") == 0


# ---- Rows and curve ----


def softmax(scores: np.ndarray) -> np.ndarray:
    odds = np.exp(scores)
    return (odds / odds.sum(2, keepdims=True)).astype(np.float32)


def test_rows_of_votes_and_of_probabilities():
    # Three of four models vote 0 by a hair, the fourth is sure of 1.
    probabilities = np.array([[[0.51, 0.49]] * 3 + [[0.0, 1.0]], [[0.5, 0.5]] * 4], np.float32)
    how = {"sigma": 2, "alpha": 0.4, "start_index": 10}
    votes = example_rows(probabilities, np.array([0, 1]), **how)
    means = example_rows(probabilities, np.array([0, 1]), bound="hoeffding", **how)
    assert list(votes) == list(means) == ["index", "bound", "label", "prediction", "n_a", "radius", "correct"]
    assert votes[["index", "prediction", "n_a", "correct"]].values.tolist() == [[10, 0, 3, True], [11, 0, 4, False]]
    assert means["prediction"].tolist() == [1, 0]
    assert means["n_a"].tolist() == pytest.approx([2.47, 2])
    assert votes["radius"].tolist() == certified_radius(np.array([3, 4]), 4, 2, 0.4).tolist()
    assert set(votes["bound"]) == {"clopper-pearson"}


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(2, 5))
def test_rows_are_the_definition_and_do_not_depend_on_the_order_of_models(seed, models, classes):
    stream = np.random.default_rng(seed)
    probabilities, labels = softmax(3 * stream.standard_normal((6, models, classes))), stream.integers(0, classes, 6)
    for bound in BOUNDS:
        rows = example_rows(probabilities, labels, sigma=1, alpha=0.1, bound=bound)
        if bound == "hoeffding":
            totals = probabilities.astype(np.float64).sum(1)
        else:
            totals = np.eye(classes)[probabilities.argmax(2)].sum(1)
        assert rows["prediction"].tolist() == totals.argmax(1).tolist()
        np.testing.assert_allclose(rows["n_a"], totals.max(1), atol=1e-6)
        assert rows["correct"].tolist() == (totals.argmax(1) == labels).tolist()
        mixed = example_rows(probabilities[:, stream.permutation(models)], labels, sigma=1, alpha=0.1, bound=bound)
        assert (mixed["prediction"] == rows["prediction"]).all()
        np.testing.assert_allclose(mixed["radius"], rows["radius"], atol=1e-6)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.full((2, 3, 2), 0.6), "model 0 for test image 0"),
        (np.array([[[0.5, 0.5], [1.5, -0.5]]]), "model 1 for test image 0"),
        (np.array([[[0.5, 0.5], [np.nan, 0.5]]]), "model 1 for test image 0"),
        (np.full((2, 3), 0.5), r"\(2, 3\)"),
        (np.ones((2, 3, 2), int), "int64"),
        (np.ones((2, 3, 1)), "at least two classes"),
        (np.zeros((0, 3, 2)), r"\(0, 3, 2\)"),
    ],
)
def test_what_are_no_probabilities_is_refused(probabilities, message):
    for bound in BOUNDS:
        with pytest.raises(InputError, match=message):
            example_rows(probabilities, np.zeros(len(probabilities), int), sigma=1, alpha=0.1, bound=bound)


def test_labels_out_of_range_are_refused():
    with pytest.raises(InputError, match="label of test image 5"):
        example_rows(np.full((1, 3, 2), 0.5), np.array([2]), sigma=1, alpha=0.1, start_index=5)


SETTING = {"models": N, "sigma": 1.0, "alpha": ALPHA, "num_classes": 2}


def table(radius: list[float], correct: list[bool], bound: str = "clopper-pearson") -> pd.DataFrame:
    return pd.DataFrame({"bound": bound, "radius": radius, "correct": correct})


def test_the_curve_is_strict_and_says_where_it_is_vacuous():
    rows = table([0, 0.5, 0.5, 1, 2.0], [True, True, False, True, True])
    found = curve(rows, [0, 0.5, 1, 2, 5], 0.95, **SETTING)
    assert list(found) == [
        *("bound", "radius", "certified_accuracy", "certified_ratio", "conditional_accuracy"),
        *("ci_low", "ci_high", "n_test", "vacuous"),
    ]
    assert found["certified_accuracy"].tolist() == [0.6, 0.4, 0.2, 0, 0]  # at 0: certified at all
    assert found["certified_ratio"].tolist() == [0.8, 0.4, 0.2, 0, 0]
    assert found["conditional_accuracy"].tolist()[:3] == [0.75, 1, 1]
    assert found["conditional_accuracy"].isna().tolist() == [False] * 3 + [True] * 2
    low, high = clopper_pearson(np.array([3, 2, 1, 0, 0]), 5, 0.95)
    assert (found["ci_low"].tolist(), found["ci_high"].tolist()) == (low.tolist(), high.tolist())
    assert found["vacuous"].tolist() == [False, False, False, False, True]
    assert set(found["n_test"]) == {5}


def test_a_radius_is_vacuous_exactly_where_even_unanimous_models_could_not_certify_it():
    for bound in BOUNDS:
        most = float(certified_radius(N, N, 1, ALPHA, 2, bound))
        found = curve(table([most], [True], bound), [np.nextafter(most, 0), most], 0.95, **SETTING)
        assert found[["certified_accuracy", "vacuous"]].values.tolist() == [[1, False], [0, True]]
    strong = curve(table([0.0], [True]), [strength(np.ones(1266))], 0.95, **SETTING)
    assert strong["vacuous"].tolist() == [True]


def test_bounds_are_kept_apart():
    rows = pd.concat([table([1, 0], [True, True]), table([0, 0], [True, False], "hoeffding")])
    found = curve(rows, [0], 0.9, **SETTING)
    assert found[["bound", "certified_accuracy"]].values.tolist() == [["clopper-pearson", 0.5], ["hoeffding", 0]]


@pytest.mark.parametrize("radii", [[], [-0.1], [float("nan")]])
def test_other_radii_and_empty_tables_are_refused(radii):
    with pytest.raises(InputError, match="curve needs"):
        curve(table([1], [True]), radii, 0.95, **SETTING)
    with pytest.raises(InputError, match="curve needs"):
        curve(table([], []), [1], 0.95, **SETTING)
