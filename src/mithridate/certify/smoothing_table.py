"""What tables say about smoothed classifiers: certified accuracy, average certified radius, and how far a poison
makes the latter fall. Everything is computed from rows of smoothing.example_rows alone.

Bootstrap intervals are percentile intervals (Efron, Annals of Statistics 7, 1979) over the drawing of the test
images, each image's certificate taken as it is; the resamples follow from `seed` alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mithridate.certify.intervals import clopper_pearson
from mithridate.errors import InputError
from mithridate.streams import Stream

RESAMPLES = 10_000
BLOCK = 1_000  # resamples in memory at once
FEWEST = 10  # test images on which a claim is judged
CLAIMED_DROP = 0.30  # Mehra et al., CVPR 2021: the average certified radius falls by more than this
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"


@dataclass(frozen=True)
class Average:
    """An average certified radius, its bootstrap interval, and the number of test images."""

    value: float
    low: float
    high: float
    n_test: int


@dataclass(frozen=True)
class Drop:
    """Average certified radius after training on clean and on poisoned data, the relative drop from the one to the
    other with its bootstrap interval, and the verdict on the claim."""

    clean: float
    poisoned: float
    drop: float
    low: float
    high: float
    verdict: str
    seeds: int
    n_test: int


def curve(rows: pd.DataFrame, radii: Sequence[float], confidence: float, *, seed: int = 0) -> pd.DataFrame:
    """One row per radius r, in the order given: radius, certified_accuracy, ci_low, ci_high, bootstrap_low,
    bootstrap_high, n_test.

    certified_accuracy: fraction of test images predicted right with a certified radius >= r; at r = 0, predicted
    right without abstaining (the approximate certified accuracy of the papers). ci: Clopper–Pearson over the draw of
    the test images at level `confidence`, for each r by itself. bootstrap: the same by resampling; of no width where
    all images or none count. Raises InputError for empty rows and radii that are negative or none.
    """
    if rows.empty or not len(radii) or not min(radii) >= 0:
        raise InputError("a curve needs test images and radii of 0 or more: give a test set, and check the radii.")
    counted = rows["correct"].to_numpy(bool) & (rows["radius"].to_numpy(np.float64) >= np.asarray(radii)[:, None])
    n, hits = len(rows), counted.sum(1)
    low, high = clopper_pearson(hits, n, confidence)
    resampled = np.concatenate([weights @ counted.T.astype(np.float64) / n for weights in _resamples(n, seed)])
    below, above = _interval(resampled, confidence)
    columns = {
        "radius": np.asarray(radii, np.float64),
        "certified_accuracy": hits / n,
        "ci_low": low,
        "ci_high": high,
        "bootstrap_low": below,
        "bootstrap_high": above,
        "n_test": n,
    }
    return pd.DataFrame(columns)


def average_certified_radius(rows: pd.DataFrame, confidence: float, *, seed: int = 0) -> Average:
    """ACR = Σ R over the test images predicted right / number of all test images (Zhai et al., ICLR 2020), in the unit
    of the radii; abstentions and wrong predictions count as 0. Raises InputError for empty rows."""
    radii = credited(rows)
    resampled = np.concatenate([weights @ radii / len(radii) for weights in _resamples(len(radii), seed)])
    low, high = _interval(resampled, confidence)
    return Average(float(radii.mean()), float(low), float(high), len(radii))


def acr_drop(
    clean: Mapping[int, pd.DataFrame],
    poisoned: Mapping[int, pd.DataFrame],
    confidence: float = 0.95,
    *,
    threshold: float = CLAIMED_DROP,
    seed: int = 0,
) -> Drop:
    """Whether poisoning makes the average certified radius fall by more than `threshold`, a fraction of the clean one.

    clean, poisoned: by training seed, the rows of the networks trained on clean and on poisoned data, over the same
    test images. The drop is 1 − (mean poisoned ACR) / (mean clean ACR) over seeds. Its interval comes from a
    hierarchical bootstrap: training seeds are resampled in pairs (clean and poisoned), then test images, the same for
    all networks. Seeds and images are crossed, and each is resampled by itself (Owen, Annals of Applied Statistics 1,
    2007); of S seeds S − 1 are drawn, which makes the variance between few seeds unbiased (Rao & Wu, JASA 83, 1988).

    verdict: "holds" if the whole interval lies above the threshold, "does not hold" if it lies below it, otherwise
    "undecided", as always with one seed, which says nothing about retraining, and with fewer than ten test images. The
    interval is meant to cover the drop over new seeds and images with probability `confidence`, but two or three seeds
    show little of the spread, so that it covers less often. Raises InputError unless the seeds, test images and labels
    of both are the same and some clean radius is positive.
    """
    if not clean or set(clean) != set(poisoned):
        raise InputError(
            f"clean networks have seeds {sorted(clean)}, poisoned ones {sorted(poisoned)}: train both from the same."
        )
    seeds = sorted(clean)
    radii = np.stack([_aligned(tables, seeds, clean[seeds[0]]) for tables in (clean, poisoned)])  # [2, seeds, n]
    averages = radii.mean((1, 2))
    if averages[0] == 0:
        raise InputError("the networks trained on clean data certify no test image, so that nothing can fall.")
    draws = np.random.default_rng(Stream("smoothing", "bootstrap", "seeds", seed).seed())
    parts = []
    for weights in _resamples(radii.shape[2], seed):
        chosen = draws.integers(0, len(seeds), (len(weights), max(1, len(seeds) - 1)))
        by_seed = radii @ weights.T  # [2, seeds, resamples]
        totals = by_seed[:, chosen, np.arange(len(weights))[:, None]].sum(2)
        parts.append(_relative_drop(*totals))
    low, high = _interval(np.concatenate(parts), confidence)
    above, below = low > threshold, high < threshold
    too_few = len(seeds) == 1 or radii.shape[2] < FEWEST or low == high
    verdict = UNDECIDED if too_few or not (above or below) else HOLDS if above else FAILS
    return Drop(
        float(averages[0]),
        float(averages[1]),
        float(_relative_drop(*averages)),
        float(low),
        float(high),
        verdict,
        len(seeds),
        radii.shape[2],
    )


def _relative_drop(clean: np.ndarray, poisoned: np.ndarray) -> np.ndarray:
    """1 − poisoned/clean; 0 where both are 0, −∞ where only the clean one is: never in favour of the claim."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(clean == poisoned, 0.0, 1 - np.divide(poisoned, clean))


def credited(rows: pd.DataFrame) -> np.ndarray:
    """What each test image adds to the average certified radius, float64 [n]."""
    if rows.empty:
        raise InputError("an average certified radius needs test images: give a test set.")
    return np.where(rows["correct"], rows["radius"], 0.0).astype(np.float64)


def _aligned(tables: Mapping[int, pd.DataFrame], seeds: Sequence[int], first: pd.DataFrame) -> np.ndarray:
    """Credited radii [seeds, n], test images in ascending order."""
    expected = first.sort_values("index")
    result = []
    for seed in seeds:
        rows = tables[seed].sort_values("index")
        if rows[["index", "label"]].to_numpy().tolist() != expected[["index", "label"]].to_numpy().tolist():
            raise InputError(f"the rows of seed {seed} are of other test images: certify the same ones for all.")
        result.append(credited(rows))
    return np.stack(result)


def _resamples(n: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of n test images is drawn in RESAMPLES samples of n with replacement: float64 [BLOCK, n] each."""
    generator = np.random.default_rng(Stream("smoothing", "bootstrap", "points", seed).seed())
    for start in range(0, RESAMPLES, BLOCK):
        block = min(BLOCK, RESAMPLES - start)
        chosen = generator.integers(0, n, (block, n)) + n * np.arange(block)[:, None]
        yield np.bincount(chosen.ravel(), minlength=block * n).reshape(block, n).astype(np.float64)


def _interval(resampled: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """The central `confidence` of the resamples [RESAMPLES, ...]."""
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}, but it must lie between 0 and 1: 0.95, for instance.")
    low, high = (1 - confidence) / 2, (1 + confidence) / 2  # outwards to a resample: −∞ must not be interpolated
    return np.quantile(resampled, low, axis=0, method="lower"), np.quantile(resampled, high, axis=0, method="higher")
