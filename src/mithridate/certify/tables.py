"""Tables: one row per test image first, certified-accuracy curves and summaries from those rows alone."""

import numpy as np
import pandas as pd

from mithridate.certify.curves import by_method, certified_counts, collective_curve, curve, example_rows
from mithridate.certify.intervals import clopper_pearson
from mithridate.errors import InputError

__all__ = ["FITTED", "certified_counts", "collective_curve", "curve", "example_rows", "summary"]

FITTED = "fitted"  # the flag of a member that is not the constant classifier


def summary(
    rows: pd.DataFrame,
    members: pd.DataFrame,
    *,
    dataset: str,
    variant: str,
    k: int,
    confidence: float,
    d: int = 1,
    seeds: int = 1,
) -> pd.DataFrame:
    """One row per method: accuracies, medians in three units, partitions.

    members: one row per base classifier with `size` (training samples), `flag` ("fitted", or why it is the
    constant classifier) and `base_accuracy`. median_printed is what papers print as median certified
    robustness, the number of radii r >= 0 with a certified accuracy of at least one half; median_radius is
    the largest such r, empty where there is none. It means as many insertions or deletions, as many label
    flips (the hash ignores the label), and half as many image replacements (a deletion and an insertion
    each). partition_skew is the Fisher–Pearson coefficient of the sizes, m3 / m2^1.5 with the biased central
    moments; empty where all sizes are equal. flagged_members are all that are not fitted, the empty ones
    included. Raises InputError where `rows` is empty or `members` are not k·d.
    """
    if len(members) != k * d:
        raise InputError(f"the table of members has {len(members)} rows instead of k·d={k * d}: make it again.")
    accuracy, partitions = _accuracy(members), _partitions(members)
    records = []
    for method, own in by_method(rows):
        counts, n = certified_counts(own), len(own)
        low, high = clopper_pearson(counts[0], n, confidence)
        printed = int((2 * counts >= n).sum())
        median = printed - 1 if printed else None
        records.append(
            {
                "dataset": dataset,
                "variant": variant,
                "k": k,
                "d": d,
                "seeds": seeds,
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
            }
        )
    table = pd.DataFrame(records)
    whole = [name for name in records[0] if "median" in name]
    return table.astype(dict.fromkeys(whole, "Int64"))


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
