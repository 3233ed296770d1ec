"""Rows per test image, and curves of certified accuracy from those rows alone.

Accuracies are fractions. Rows come in a fixed order and numbers are never rounded, so that equal scores give
equal CSV bytes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mithridate.certify.aggregation import vote_counts, winner_and_runner_up
from mithridate.certify.intervals import clopper_pearson
from mithridate.certify.methods import certify
from mithridate.errors import InputError


def example_rows(
    scores: np.ndarray,
    labels: np.ndarray,
    method: str,
    start_index: int = 0,
    counts: np.ndarray | None = None,
    shifts: Sequence[int] | np.ndarray | None = None,
) -> pd.DataFrame:
    """One row per test image: index, method, label, prediction, votes, runner_up, radius, correct.

    scores [n, m, classes] of test images start_index..start_index+n-1, checked (scores_check), labels [n]; shifts
    of Finite Aggregation's subsets, None or [0] where the subsets are disjoint (see methods.check_method).
    votes and runner_up are the votes for the predicted class and for the strongest other class; with the
    Run-off Election those of round 1, where the predicted class may have fewer than the runner-up. radius
    counts insertions or deletions, is >= 0 and does not depend on the label. `counts` are the vote counts
    where known already. Raises InputError for a method that does not hold for these subsets or is unknown, and
    for fewer than two classes.
    """
    if counts is None:
        counts = vote_counts(scores)
    prediction, radius = certify(scores, method, shifts, counts)
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
    for method, own in by_method(rows):
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


def collective_curve(
    bounds: pd.DataFrame, *, dataset: str, variant: str, k: int, d: int = 1, seeds: int = 1
) -> pd.DataFrame:
    """The rows of `curve` for the collective certificate, at the radii it was computed for.

    bounds: one row per radius with radius, accuracy and n_test (see collective.Collective). ci_low and ci_high are
    empty: it is a joint worst case over this very test set.
    """
    return pd.DataFrame(
        {
            "dataset": dataset,
            "variant": variant,
            "inputs": "clean",
            "trigger": "",
            "k": k,
            "d": d,
            "seeds": seeds,
            "method": "collective",
            "certificate_kind": "collective",
            "radius_meaning": "from_clean",
            "radius": bounds["radius"],
            "certified_accuracy": bounds["accuracy"],
            "ci_low": np.nan,
            "ci_high": np.nan,
            "n_test": bounds["n_test"],
        }
    )


def by_method(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each method's rows, methods in order of appearance."""
    if rows.empty:
        raise InputError("the table of certificates is empty: give a data set with a test set, then certify.")
    return [(str(method), rows[rows["method"] == method]) for method in rows["method"].unique()]
