"""results/dgn_robustness.csv from what every network said of every set of adversarial images."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from mithridate.certify.intervals import over_seeds

TARGET, CLEAN = "none", "none"  # the undefended network among the defences; no attack
SETTING = ["defence", "attack", "mode", "true_label", "epsilon"]
MEANS = ["seconds_per_1000", "linf", "l2", "ssim"]
FAILED = "attack failed"
LEFT = 0.5  # share of the target's accuracy that a generator's images may leave


def tabulate(runs: Sequence[pd.DataFrame], dataset: str, confidence: float) -> pd.DataFrame:
    """One row per defence, attack, mode and radius, over all seeds.

    runs: per seed and network the rows of `evaluation`. Columns: robust_accuracy with the intervals of
    `intervals.over_seeds`; seeds; n; seconds_per_1000 examples; mean L∞, L2 and SSIM between original and adversarial
    images; true_label, whether the example was made with the true label; note: "attack failed" for an attack whose
    transferred images leave the undefended target more than half of its accuracy; published accuracy and ours minus it,
    for the data sets and transfers that the paper reports.
    """
    whole = pd.concat(runs, ignore_index=True)
    rows = []
    for setting, own in whole.groupby(SETTING, sort=False, dropna=False):
        row: dict[str, Any] = {"dataset": dataset, **dict(zip(SETTING, setting, strict=True))}
        n = int(own["n"].iloc[0])
        row |= over_seeds("robust_accuracy", (own["right"] / own["n"]).to_numpy(np.float64), n, confidence)
        row |= {name: own[name].mean() for name in MEANS}
        rows.append({**row, "seeds": len(own), "n": n})
    return _published(_noted(pd.DataFrame(rows)), dataset)


def _noted(table: pd.DataFrame) -> pd.DataFrame:
    """With a note on every row of an attack that fails against the target itself."""
    target = table[table["defence"] == TARGET]
    clean = target.loc[target["mode"] == "clean", "robust_accuracy"].iloc[0]
    transfer = target[target["mode"] == "transfer"]
    failed = set(transfer.loc[transfer["robust_accuracy"] > LEFT * clean, "attack"])
    weak = table["attack"].isin(failed) & (table["mode"] == "transfer")
    return table.assign(note=np.where(weak, FAILED, ""))


def _published(table: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """With the published accuracy, where there is one, and the difference in points of a share."""
    with (files("mithridate.adversarial") / "published.csv").open() as file:
        known = pd.read_csv(file).query("dataset == @dataset").set_index(["defence", "attack"])["accuracy"]
    keys = list(zip(table["defence"], table["attack"], strict=True))
    published = [
        known.get(key, np.nan) if mode == "transfer" else np.nan for key, mode in zip(keys, table["mode"], strict=True)
    ]
    return table.assign(published=published, difference=table["robust_accuracy"] - np.array(published, np.float64))
