"""Confidence intervals for what is measured on a finite test set."""

import numpy as np
from scipy.special import betaincinv, stdtrit

from mithridate.errors import InputError


def clopper_pearson(
    successes: np.ndarray | int, n: np.ndarray | int, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """The two-sided exact interval (low, high) for a proportion, elementwise; fractions in [0, 1].

    With probability at least `confidence` over the drawing of the n independent test images, the interval
    holds the proportion in the population they come from. It holds for one proportion at a time, not for a
    whole curve at once. Source: Clopper & Pearson, Biometrika 26 (1934), through quantiles of the beta
    distribution. Raises InputError unless 0 <= successes <= n, n >= 1 and 0 < confidence < 1.
    """
    hits, total = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(n, np.float64))
    if (total < 1).any() or (hits < 0).any() or (hits > total).any():
        raise InputError("a proportion needs 0 <= successes <= n and n >= 1: check the table it comes from.")
    half = _alpha(confidence) / 2
    none, every = hits == 0, hits == total
    # betaincinv wants positive parameters: 1 stands in where the bound is 0 or 1 by definition.
    low = np.where(none, 0.0, betaincinv(np.where(none, 1.0, hits), total - hits + 1, half))
    high = np.where(every, 1.0, betaincinv(hits + 1, np.where(every, 1.0, total - hits), 1 - half))
    return low, high


def dkw_half_width(n: int, confidence: float) -> float:
    """Half the width of the Dvoretzky–Kiefer–Wolfowitz band round an empirical distribution function.

    With probability at least `confidence` over the drawing of the n independent test images, the whole curve
    (certified accuracy at every radius together) lies within this distance of the population's curve:
    sqrt(ln(2/α) / (2n)), α = 1 − confidence, with the constant 2 of Massart, Annals of Probability 18 (1990).
    Raises InputError unless n >= 1 and 0 < confidence < 1.
    """
    if n < 1:
        raise InputError(f"a confidence band needs a test image, and there are {n}: check the test set.")
    return float(np.sqrt(np.log(2 / _alpha(confidence)) / (2 * n)))


def over_seeds(name: str, values: np.ndarray, n: int, confidence: float) -> dict[str, float]:
    """Columns of a rate that was measured on n test images with several seeds, values [seeds]: its mean, called `name`;
    *_low and *_high, Clopper–Pearson over the test images for the mean rate; *_seed_low and *_seed_high, Student's t
    over the seeds (nan for one), cut to [0, 1]. Neither covers the other's chance, and the second is of no width where
    all seeds agree."""
    mean, half = float(values.mean()), np.nan
    low, high = clopper_pearson(np.array(mean * n), n, confidence)
    if len(values) > 1:
        half = stdtrit(len(values) - 1, (1 + confidence) / 2) * values.std(ddof=1) / np.sqrt(len(values))
    spread = {"seed_low": np.clip(mean - half, 0, 1), "seed_high": np.clip(mean + half, 0, 1)}
    found = {name: mean, f"{name}_low": float(low), f"{name}_high": float(high)}
    return {**found, **{f"{name}_{end}": float(value) for end, value in spread.items()}}


def _alpha(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}, but it must lie between 0 and 1: 0.95, for instance.")
    return 1 - confidence
