"""Tables: one row per test image first, certified-accuracy curves and summaries from those rows alone.

Accuracies are fractions. Rows come in a fixed order and numbers are never rounded, so that equal scores give
equal CSV bytes.
"""

import csv
from collections.abc import Callable
from importlib.resources import files
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd

from mithridate.certify.aggregation import certify_dpa, vote_counts, winner_and_runner_up
from mithridate.certify.intervals import clopper_pearson
from mithridate.certify.runoff import certify_runoff
from mithridate.errors import InputError

Certify = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

METHODS: dict[str, Certify] = {
    "dpa": lambda scores, counts: certify_dpa(counts),
    "runoff": certify_runoff,
}
"""By name: (scores [n, k, classes], their vote counts [n, classes]) -> (prediction [n], radius [n])."""

FITTED = "fitted"  # the flag of a member that is not the constant classifier

PUBLISHED = ("median_printed", "clean_accuracy", "base_accuracy", "source", "note")
"""Columns of published.csv, beside those that name the setting."""


def example_rows(
    scores: np.ndarray,
    labels: np.ndarray,
    method: str,
    start_index: int = 0,
    counts: np.ndarray | None = None,
) -> pd.DataFrame:
    """One row per test image: index, method, label, prediction, votes, runner_up, radius, correct.

    scores [n, k, classes] of test images start_index..start_index+n-1, checked (scores_check), labels [n].
    votes and runner_up are the votes for the predicted class and for the strongest other class; with the
    Run-off Election those of round 1, where the predicted class may have fewer than the runner-up. radius
    counts insertions or deletions, is >= 0 and does not depend on the label. `counts` are the vote counts
    where known already. Raises InputError for an unknown method or fewer than two classes.
    """
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown: choose among {', '.join(METHODS)}.")
    if counts is None:
        counts = vote_counts(scores)
    prediction, radius = METHODS[method](scores, counts)
    votes, runner_up = winner_and_runner_up(counts, prediction)
    return pd.DataFrame(
        {
            "index": np.arange(start_index, start_index + len(labels)),
            "method": method,
            "label": labels,
            "prediction": prediction,
            "votes": votes,
            "runner_up": runner_up,
            "radius": radius,
            "correct": prediction == labels,
        }
    )


def certified_counts(rows: pd.DataFrame) -> np.ndarray:
    """How many images of one method's rows are right and certified at radius 0, 1, …, int [radii].

    The last radius is the first at which none is, so that a curve visibly ends at zero.
    """
    radius = rows.loc[rows["correct"].astype(bool), "radius"].to_numpy(np.int64)
    reached = np.bincount(radius, minlength=0)
    return np.append(reached[::-1].cumsum()[::-1], 0)


def curve(
    rows: pd.DataFrame,
    *,
    dataset: str,
    variant: str,
    k: int,
    confidence: float,
    inputs: str = "clean",
    trigger: str = "",
    d: int = 1,
    seeds: int = 1,
    certificate_kind: str = "pointwise",
    radius_meaning: str = "from_clean",
) -> pd.DataFrame:
    """Certified accuracy against radius: for each method in `rows` one row per radius, from 0 to one past the
    largest radius with a certified accuracy above zero.

    certified_accuracy at r is the fraction of test images that are predicted right with a radius of at least
    r. ci_low, ci_high: Clopper–Pearson at level `confidence` for each radius by itself (see intervals for
    what that guarantees, and for a band that holds for the whole curve). Raises InputError where `rows` is
    empty.
    """
    tables = []
    for method, own in _by_method(rows):
        counts, n = certified_counts(own), len(own)
        low, high = clopper_pearson(counts, n, confidence)
        columns: dict[str, Any] = {
            "dataset": dataset,
            "variant": variant,
            "inputs": inputs,
            "trigger": trigger,
            "k": k,
            "d": d,
            "seeds": seeds,
            "method": method,
            "certificate_kind": certificate_kind,
            "radius_meaning": radius_meaning,
            "radius": np.arange(len(counts)),
            "certified_accuracy": counts / n,
            "ci_low": low,
            "ci_high": high,
            "n_test": n,
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def summary(
    rows: pd.DataFrame,
    members: pd.DataFrame,
    *,
    dataset: str,
    variant: str,
    k: int,
    confidence: float,
    recipe: str = "",
) -> pd.DataFrame:
    """One row per method: accuracies, medians in three units, partitions, and the published numbers beside.

    members: one row per base classifier with `size` (training samples), `flag` ("fitted", or why it is the
    constant classifier) and `base_accuracy`. median_printed is what papers print as median certified
    robustness, the number of radii r >= 0 with a certified accuracy of at least one half; median_radius is
    the largest such r, empty where there is none. It means as many insertions or deletions, as many label
    flips (the hash ignores the label), and half as many image replacements (a deletion and an insertion
    each). partition_skew is the Fisher–Pearson coefficient of the sizes, m3 / m2^1.5 with the biased central
    moments; empty where all sizes are equal. flagged_members are all that are not fitted, the empty ones
    included. published_* are filled where dataset, k, method and `recipe` are those of a row of
    published.csv. Raises InputError where `rows` is empty or `members` are not k.
    """
    if len(members) != k:
        raise InputError(f"the table of members has {len(members)} rows instead of k={k}: make it again.")
    accuracy, partitions = _accuracy(members), _partitions(members)
    records = []
    for method, own in _by_method(rows):
        counts, n = certified_counts(own), len(own)
        low, high = clopper_pearson(counts[0], n, confidence)
        printed = int((2 * counts >= n).sum())
        median = printed - 1 if printed else None
        records.append(
            {
                "dataset": dataset,
                "variant": variant,
                "k": k,
                "method": method,
                "n_test": n,
                **accuracy,
                "clean_accuracy": counts[0] / n,
                "ci_low": float(low),
                "ci_high": float(high),
                "median_printed": printed,
                "median_radius": median,
                "median_insertions_or_deletions": median,
                "median_label_flips": median,
                "median_image_replacements": None if median is None else median // 2,
                **partitions,
                **_published(dataset, k, method, recipe),
            }
        )
    table = pd.DataFrame(records)
    whole = [name for name in records[0] if "median" in name]
    return table.astype(dict.fromkeys(whole, "Int64"))


def _by_method(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each method's rows, methods in order of appearance."""
    if rows.empty:
        raise InputError("the table of certificates is empty: give a data set with a test set, then certify.")
    return [(str(method), rows[rows["method"] == method]) for method in rows["method"].unique()]


def _accuracy(members: pd.DataFrame) -> dict[str, float]:
    accuracy = members["base_accuracy"].to_numpy(np.float64)
    return {
        "base_accuracy": float(accuracy.mean()),
        "base_accuracy_min": float(accuracy.min()),
        "base_accuracy_max": float(accuracy.max()),
    }


def _partitions(members: pd.DataFrame) -> dict[str, float | int]:
    from scipy.stats import skew  # half a second to import, and only this table needs it

    sizes = members["size"].to_numpy(np.int64)
    return {
        "partition_min": int(sizes.min()),
        "partition_mean": float(sizes.mean()),
        "partition_max": int(sizes.max()),
        "partition_skew": float(skew(sizes)) if sizes.min() < sizes.max() else float("nan"),
        "empty_members": int((sizes == 0).sum()),
        "flagged_members": int((members["flag"] != FITTED).sum()),
    }


def _published(dataset: str, k: int, method: str, recipe: str) -> dict[str, Any]:
    """The numbers the paper prints for this setting; empty where it has none."""
    setting = {"dataset": dataset, "k": str(k), "method": method, "recipe": recipe}
    text = files("mithridate.certify").joinpath("published.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(StringIO(text)) if setting.items() <= row.items()]
    row = rows[0] if rows else dict.fromkeys(PUBLISHED, "")
    median, clean, base = (row[name] for name in PUBLISHED[:3])
    return {
        "published_median": int(median) if median else None,
        "published_clean_accuracy": float(clean or "nan"),
        "published_base_accuracy": float(base or "nan"),
        "published_source": "; ".join(text for text in (row["source"], row["note"]) if text),
    }
