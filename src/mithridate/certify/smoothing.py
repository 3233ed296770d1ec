"""Randomized smoothing's certificate: a classifier smoothed over noise on the test image, against L2 perturbations.

Source: Cohen, Rosenfeld & Kolter, "Certified Adversarial Robustness via Randomized Smoothing", ICML 2019, theorem 1
and procedure CERTIFY. The smoothed classifier predicts the class that the base classifier most probably gives under
N(0, σ²) on every pixel (images in [0,1]). N0 noises choose a class; N fresh ones, never the same, bound its
probability from below by p_A (Clopper & Pearson 1934). If p_A < 1/2 the classifier abstains; otherwise no
perturbation of L2 norm below R = σ Φ⁻¹(p_A) changes its prediction. Since the class is fixed before the N noises are
drawn, α need not be split over classes.

The statement holds with probability at least 1 − α over the noise, for each test image by itself.
"""

from itertools import count

import numpy as np
import pandas as pd
from scipy.special import betaincinv, ndtri

from mithridate.certify.aggregation import at
from mithridate.certify.scores_check import check_labels
from mithridate.errors import InputError

ABSTAIN = -1  # the prediction where p_A < 1/2


def probability_bound(n_a: np.ndarray | float, n: np.ndarray | int, alpha: float) -> np.ndarray:
    """A lower bound p_A on the probability of a class that was fixed beforehand; elementwise, in [0, 1].

    n_a of n draws gave the class. With probability at least 1 − alpha over the n draws, whose number was fixed
    beforehand too, the bound is not above the true probability (Clopper & Pearson, Biometrika 26, 1934, one-sided).
    Raises InputError unless n_a are whole numbers in 0..n, n >= 1 and 0 < alpha < 1.
    """
    hits, total = check_counts(n_a, n, alpha)
    none = hits == 0
    # betaincinv wants positive parameters: 1 stands in where the bound is 0 by definition.
    return np.where(none, 0.0, betaincinv(np.where(none, 1.0, hits), total - hits + 1, alpha))


def certified_radius(n_a: np.ndarray | int, n: np.ndarray | int, sigma: float, alpha: float) -> np.ndarray:
    """R = σ Φ⁻¹(p_A) of Cohen et al. (2019), theorem 1 with p_B = 1 − p_A; NaN where it abstains, p_A < 1/2.

    n_a: how many of the n estimation noises gave the selected class. sigma: standard deviation of the noise, images
    in [0,1]; the radius is an L2 norm in the same unit. With probability at least 1 − alpha over the noise, for each
    test image by itself, the smoothed classifier predicts this class and no perturbation shorter than R changes that.
    Raises InputError as probability_bound does, and unless 0 < sigma < ∞.
    """
    return radius_of(probability_bound(n_a, n, alpha), sigma)


def radius_of(p_a: np.ndarray, sigma: float) -> np.ndarray:
    """σ Φ⁻¹(p_A), NaN where p_A < 1/2; for any lower bound p_A on the probability of the predicted class."""
    if not 0 < sigma < np.inf:
        raise InputError(f"sigma = {sigma}: the noise's standard deviation must be positive, 0.25 for instance.")
    return np.where(p_a >= 0.5, sigma * ndtri(np.maximum(p_a, 0.5)), np.nan)


def largest_radius(n: int, sigma: float, alpha: float) -> float:
    """The radius where all n noises agree, σ Φ⁻¹(alpha^(1/n)); NaN where even then nothing is certified."""
    return float(certified_radius(n, n, sigma, alpha))


def check_samples(n: int, sigma: float, alpha: float) -> None:
    """Raises InputError where n noises certify nothing even if all agree."""
    if np.isnan(largest_radius(n, sigma, alpha)):
        least = next(m for m in count(max(1, int(-np.log2(alpha)))) if not np.isnan(largest_radius(m, sigma, alpha)))
        raise InputError(
            f"N = {n} certifies nothing at alpha = {alpha:g}: the least N is {least}, and the largest possible radius"
            f" with N = {least} is {largest_radius(least, sigma, alpha):.4f} (sigma = {sigma:g}); give more noises."
        )


def check_counts(n_a: np.ndarray | float, n: np.ndarray | int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 of one shape. Raises InputError unless n_a are whole numbers in 0..n, n >= 1, 0 < alpha < 1."""
    hits, total = np.broadcast_arrays(np.asarray(n_a, np.float64), np.asarray(n, np.float64))
    if not 0 < alpha < 1:
        raise InputError(f"alpha = {alpha}: the probability of a wrong certificate must lie in (0, 1), 0.001 say.")
    if not ((total >= 1) & (hits >= 0) & (hits <= total) & (hits == np.floor(hits))).all():  # False for NaN
        raise InputError(
            "a certificate needs whole counts 0 <= n_a <= n of at least one noise: count the classes of these n noises."
        )
    return hits, total


def example_rows(
    selection_counts: np.ndarray,
    estimation_counts: np.ndarray,
    labels: np.ndarray,
    indices: np.ndarray,
    *,
    sigma: float,
    alpha: float,
) -> pd.DataFrame:
    """One row per test image: index, label, prediction, selected, n_a, n, radius, correct.

    selection_counts, estimation_counts int [n, C]: how often each class was predicted under the N0 and under the N
    noises, which must be different ones; labels and indices [n] of the images. selected: the class most counted in
    selection, at ties the smaller. prediction: that class, or ABSTAIN = −1; radius: 0 where it abstains, so that the
    table holds no NaN. Raises InputError for counts that are none, N too small for alpha to certify anything, labels
    out of range, indices that are repeated, and as certified_radius does.
    """
    for name, counts in (("selection", selection_counts), ("estimation", estimation_counts)):
        _check_table(name, counts)
    if selection_counts.shape != estimation_counts.shape:
        raise InputError(
            f"selection counts have shape {selection_counts.shape}, estimation counts {estimation_counts.shape}:"
            " count both for the same test images and classes."
        )
    draws = int(estimation_counts[0].sum())
    check_samples(draws, sigma, alpha)
    selected = selection_counts.argmax(1)
    n_a = at(estimation_counts, selected)
    check_labels(labels, *selection_counts.shape, start_index=0, where="the table of counts")
    radius = certified_radius(n_a, draws, sigma, alpha)
    return rows_of(selected, n_a, np.full(len(n_a), draws), radius, labels, indices)


def rows_of(
    selected: np.ndarray,
    n_a: np.ndarray,
    n: np.ndarray,
    radius: np.ndarray,
    labels: np.ndarray,
    indices: np.ndarray,
) -> pd.DataFrame:
    """The table of example_rows from its parts, all [n]; radius is NaN where the classifier abstains."""
    if np.shape(indices) != np.shape(labels) or len(np.unique(indices)) != len(labels):
        raise InputError("indices must name each test image once, one per label: give positions in the test set.")
    abstains = np.isnan(radius)
    prediction = np.where(abstains, ABSTAIN, selected)
    return pd.DataFrame(
        {
            "index": np.asarray(indices, np.int64),
            "label": labels,
            "prediction": prediction,
            "selected": selected,
            "n_a": n_a,
            "n": n,
            "radius": np.where(abstains, 0.0, radius),
            "correct": prediction == labels,
        }
    )


def _check_table(name: str, counts: np.ndarray) -> None:
    if counts.ndim != 2 or counts.dtype.kind not in "iu" or counts.shape[0] == 0 or counts.shape[1] < 2:
        raise InputError(
            f"{name} counts are {counts.dtype} of shape {counts.shape} instead of whole numbers [images, classes], of"
            " at least one image and two classes: count them again."
        )
    totals = counts.sum(1)
    if (counts < 0).any() or totals[0] < 1 or (totals != totals[0]).any():
        raise InputError(
            f"{name} counts add up to {totals.min()} to {totals.max()} noises an image: draw the same positive number"
            " for every image."
        )
