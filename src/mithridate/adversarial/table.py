"""results/dgn_robustness.csv from what every network said of every set of adversarial images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mithridate.adversarial.evaluation import MISLED
from mithridate.certify.intervals import over_seeds
from mithridate.options.dgn_runs import FAILED, RANDOM, UNDEFENDED

TARGET, CLEAN = UNDEFENDED, "none"  # the undefended network among the defences; no attack
SETTING = ["defence", "attack", "mode", "true_label", "bounded", "epsilon"]
MEANS = ["seconds_per_1000", "linf", "l2", "ssim"]
NO_BETTER, UNBOUNDED = "no better than random", "not within epsilon"
LEFT = 0.5  # share of the target's accuracy that a generator's images may leave


def tabulate(runs: Sequence[pd.DataFrame], dataset: str, confidence: float) -> pd.DataFrame:
    """One row per defence, attack, mode and radius, over all seeds.

    runs: per seed and network the rows of `evaluation`. Columns: robust_accuracy with the intervals of
    `intervals.over_seeds`; seeds; n; seconds_per_1000 examples; mean L∞, L2 and SSIM between original and adversarial
    images; true_label, whether the example was made with the true label; bounded, whether it is within ε; as_generator,
    the share that is taken for the class of a wrong generator; note, of an attack's transferred and wrong-class images:
    "attack failed" where the transferred ones leave the undefended target more than half of its accuracy, "no better
    than random" where random ±ε leaves it no more, "not within epsilon".
    """
    whole = pd.concat(runs, ignore_index=True)
    rows = []
    for setting, own in whole.groupby(SETTING, sort=False, dropna=False):
        row: dict[str, Any] = {"dataset": dataset, **dict(zip(SETTING, setting, strict=True))}
        n = int(own["n"].iloc[0])
        row |= over_seeds("robust_accuracy", (own["right"] / own["n"]).to_numpy(np.float64), n, confidence)
        row |= {name: own[name].mean() for name in MEANS} | {MISLED: (own[MISLED] / own["n"]).mean()}
        rows.append({**row, "seeds": len(own), "n": n})
    return _noted(pd.DataFrame(rows))


def _noted(table: pd.DataFrame) -> pd.DataFrame:
    """With a note on the rows of attacks that do little to the target itself, or more than ε to the images."""
    target = table[table["defence"] == TARGET].set_index(["attack", "mode"])["robust_accuracy"]
    target = target.groupby(level=[0, 1]).mean()  # of an attack that stands twice, with the label and without
    clean, noise = target[CLEAN, "clean"], target.get((RANDOM, "random"), np.nan)

    def note(attack: str, mode: str, bounded: bool) -> str:
        if mode not in ("transfer", "wrong-class"):
            return ""
        left = target.get((attack, "transfer"), np.nan)
        found = {FAILED: left > LEFT * clean, NO_BETTER: left >= noise, UNBOUNDED: not bounded}
        return "; ".join(name for name, holds in found.items() if holds)

    keys = zip(table["attack"], table["mode"], table["bounded"], strict=True)
    return table.assign(note=[note(*key) for key in keys])
