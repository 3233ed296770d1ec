"""RAB's certificate: a model smoothed over noise on the training set, against pixel triggers in that set.

Source: Weber, Xu, Karlaš, Zhang & Li, "RAB: Provable Robustness Against Backdoor Attacks", IEEE S&P 2023,
Theorem 1 and Corollary 1. N models are trained, each on its own copy of the training set with N(0, σ²) added to
every pixel (images in [0,1]); the smoothed model predicts the class with the largest probability over the noise,
which the N models only estimate.

What it says: the prediction is the same for the training set with any patterns δ_i on its images as for the very
set without the patterns, as long as sqrt(Σ ‖δ_i‖₂²) < R. The labels of poisoned images are not restored: both
sets have the labels of the one that was trained on. The statement holds with probability at least 1 − α over the
draw of the noise, for each test point by itself; one set of N models serves all points, so that nothing is said
about all of them jointly.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.special import ndtri

from mithridate.certify import smoothing
from mithridate.certify.aggregation import at, count_votes, votes
from mithridate.certify.intervals import clopper_pearson
from mithridate.certify.scores_check import check_labels
from mithridate.errors import InputError

BOUNDS = ("clopper-pearson", "hoeffding")
SUM_TOLERANCE = 1e-3  # of a row of probabilities in single precision


def probability_bound(n_a: np.ndarray | float, n: int, alpha: float, bound: str = BOUNDS[0]) -> np.ndarray:
    """A lower bound on the smoothed probability of a class that was fixed beforehand; in [0, 1], as n_a.

    With probability at least 1 − alpha over the draw of the N = n models it is not above the true probability.
    "clopper-pearson": n_a is the number of models that vote for the class. "hoeffding": n_a / n is the mean of
    the models' probabilities of it, and sqrt(ln(1/alpha) / (2n)) is taken off. Raises InputError for an unknown
    bound, n < 1, alpha outside (0, 1), n_a outside 0..n, or votes that are not whole numbers.
    """
    number = np.asarray(n_a, np.float64)
    if bound not in BOUNDS:
        raise InputError(f"bound {bound!r} is unknown: choose among {', '.join(BOUNDS)}.")
    if n < 1 or not 0 < alpha < 1:
        raise InputError(f"n = {n} and alpha = {alpha}: at least one model is needed, and 0 < alpha < 1.")
    if not ((number >= 0) & (number <= n)).all():
        raise InputError(f"n_a must lie in 0..n = {n}: count votes, or add probabilities, of these n models.")
    if bound == "hoeffding":
        return cast(np.ndarray, np.maximum(0.0, number / n - np.sqrt(np.log(1 / alpha) / (2 * n))))
    if (number != np.floor(number)).any():
        raise InputError("n_a holds fractions, and clopper-pearson counts votes: give votes, or use hoeffding.")
    return smoothing.probability_bound(number, n, alpha)


def certified_radius(
    n_a: np.ndarray | float,
    n: int,
    sigma: float,
    alpha: float,
    num_classes: int = 2,
    bound: str = BOUNDS[0],
) -> np.ndarray:
    """R = σ/2 · (Φ⁻¹(p_A) − Φ⁻¹(p_B)) = σ · Φ⁻¹(p_A) with p_B = 1 − p_A; 0 where nothing is certified.

    n_a: votes, or summed probabilities, of the predicted class among the n models (see probability_bound).
    sigma: standard deviation of the noise, images in [0,1]; the radius is in the same unit. The class is
    predicted by the same n models, so that p_A must hold for each of num_classes at once: it is bounded at
    alpha / num_classes. num_classes = 1 stands for a class that was fixed beforehand. With probability at least
    1 − alpha over the draw of the noise, and for each test point by itself, no patterns of a strength below R on
    the training images change the prediction. Raises InputError as probability_bound does, and for sigma <= 0
    or num_classes < 1.
    """
    if not 0 < sigma < np.inf or num_classes < 1:
        raise InputError(f"sigma = {sigma} and num_classes = {num_classes}: both must be positive.")
    p_a = probability_bound(n_a, n, alpha / num_classes, bound)
    return np.where(p_a > 0.5, sigma * ndtri(np.maximum(p_a, 0.5)), 0.0)


def strength(norms: np.ndarray) -> float:
    """The size of an attack in the certificate's terms, sqrt(Σ ‖δ_i‖₂²), from the realised L2 norms of the
    patterns on the poisoned training images, images in [0,1]. Raises InputError unless all are finite and >= 0."""
    values = np.asarray(norms, np.float64)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise InputError("norms of patterns must be finite and not negative: measure them on the stored images.")
    return float(np.sqrt((values**2).sum()))


def example_rows(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    sigma: float,
    alpha: float,
    bound: str = BOUNDS[0],
    start_index: int = 0,
) -> pd.DataFrame:
    """One row per test image: index, bound, label, prediction, n_a, radius, correct.

    probabilities float [n, N, C]: of every class, by each of the N models, for the test images
    start_index..start_index+n-1; labels [n]. With "hoeffding" the class of the largest mean probability is
    predicted, and n_a is the sum of its probabilities; with "clopper-pearson" the class with most votes, and n_a
    are its votes. At ties the smaller class. alpha is split over the C classes. Raises InputError for
    probabilities that are none, labels out of range, and as certified_radius does.
    """
    _check_probabilities(probabilities, start_index)
    n, models, classes = probabilities.shape
    check_labels(labels, n, classes, start_index=start_index, where="the table of probabilities")
    if bound == "hoeffding":
        totals = np.minimum(probabilities.sum(1, dtype=np.float64), models)
    else:
        totals = count_votes(votes(probabilities), classes)
    prediction = totals.argmax(1)
    n_a = at(totals, prediction)
    return pd.DataFrame(
        {
            "index": np.arange(start_index, start_index + n),
            "bound": bound,
            "label": labels,
            "prediction": prediction,
            "n_a": n_a,
            "radius": certified_radius(n_a, models, sigma, alpha, classes, bound),
            "correct": prediction == labels,
        }
    )


def _check_probabilities(probabilities: np.ndarray, start_index: int) -> None:
    if (
        probabilities.ndim != 3
        or probabilities.dtype.kind != "f"
        or not probabilities.size
        or probabilities.shape[2] < 2
    ):
        raise InputError(
            f"probabilities are {probabilities.dtype} of shape {probabilities.shape} instead of real numbers "
            "[images, models, classes], of at least two classes: make them again."
        )
    proper = (probabilities >= 0) & (probabilities <= 1 + SUM_TOLERANCE)  # False for NaN
    off = np.abs(probabilities.sum(2, dtype=np.float64) - 1) > SUM_TOLERANCE
    wrong = np.argwhere(~proper.all(2) | off)
    if len(wrong):
        row, model = wrong[0]
        raise InputError(
            f"the probabilities of model {model} for test image {start_index + row} are not in [0,1] with sum 1: "
            "give softmax or sigmoid outputs, one column per class."
        )


def curve(
    rows: pd.DataFrame,
    radii: Sequence[float],
    confidence: float,
    *,
    models: int,
    sigma: float,
    alpha: float,
    num_classes: int,
) -> pd.DataFrame:
    """For each bound in `rows` (of example_rows) one row per radius r, in the order given.

    certified_accuracy: fraction of test images predicted right with radius > r, strictly; ci_low, ci_high:
    Clopper–Pearson for it at level `confidence` over the draw of the test images, for each r by itself.
    certified_ratio: radius > r, right or wrong. conditional_accuracy: right among these, empty where there are
    none. vacuous: with so many models, this sigma, alpha and number of classes, no image could have a radius
    above r even if all models agreed, so that the zero says nothing about the data. Raises InputError for empty
    rows, radii that are negative or none, and as certified_radius does.
    """
    if rows.empty or not len(radii) or not min(radii) >= 0:
        raise InputError("a curve needs test images and radii of 0 or more: give a test set, and check the radii.")
    tables = []
    for bound in rows["bound"].unique():
        own = rows[rows["bound"] == bound]
        beyond = own["radius"].to_numpy(np.float64) > np.asarray(radii, np.float64)[:, None]
        right, certified, n = beyond & own["correct"].to_numpy(bool), beyond.sum(1), len(own)
        low, high = clopper_pearson(right.sum(1), n, confidence)
        most = float(certified_radius(models, models, sigma, alpha, num_classes, bound))
        columns: dict[str, Any] = {
            "bound": bound,
            "radius": np.asarray(radii, np.float64),
            "certified_accuracy": right.sum(1) / n,
            "certified_ratio": certified / n,
            "conditional_accuracy": np.where(certified, right.sum(1) / np.maximum(certified, 1), np.nan),
            "ci_low": low,
            "ci_high": high,
            "n_test": n,
            "vacuous": most <= np.asarray(radii, np.float64),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)
