"""The table of backdoors: what each attack does to one undefended classifier and to the ensembles.

One row per poisoned set and defence first (`run_row`), then the matrix over the seeds of the poisoned sets (`matrix`).
Accuracies and rates are fractions. The attack success rate (ASR) is the share of triggered test images of other
classes than the target that are taken for the target.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mithridate.certify.intervals import over_seeds
from mithridate.options.attacks import CLEAN, DpaAttackOptions, Variant

CHECKED = ("touched_subsets", "possible_flips", "observed_flips")
RATES = ("clean_accuracy", "asr", "triggered_accuracy")
SETTING = [
    "dataset", "attack", "trigger", "target", "poisoned", "poisoned_images", "defence", "k", "d", "seeds",
]  # fmt: skip


@dataclass(frozen=True)
class Results:
    """What the workflow has measured. Tables of predictions have one row per test image: index, label, prediction, and
    radius where the defence certifies.

    singles and certificates: by (variant, trigger; "" for clean test images), the latter also by ensemble (k, d, seeds)
    and method; checks: by (variant, k, d, seeds), see `attack_check`; poisoned_images: by variant.
    """

    singles: Mapping[tuple[str, str], pd.DataFrame]
    certificates: Mapping[tuple[str, str, tuple[int, int, int], str], pd.DataFrame]
    checks: Mapping[tuple[str, int, int, int], pd.DataFrame]
    poisoned_images: Mapping[str, int]


def runs(attacks: Sequence[DpaAttackOptions], results: Results) -> pd.DataFrame:
    """One row per attack, number of poisoned images, seed of the poisoned set, and defence."""
    rows = []
    for attack in attacks:
        for poisoned in attack.poisoned:
            for seed in range(attack.seeds if poisoned else 1):
                variant = Variant(attack, poisoned, seed).name if poisoned else CLEAN
                count = results.poisoned_images.get(variant, 0)
                setting = {
                    "attack": attack.name,
                    "trigger": attack.trigger_name,
                    "target": attack.target,
                    "poisoned": poisoned,
                    "poisoned_images": count,
                    "poison_seed": seed,
                }
                rows += [{**setting, **row} for row in _defences(attack, variant, count, results)]
    return pd.DataFrame(rows)


def _defences(attack: DpaAttackOptions, variant: str, count: int, results: Results) -> Iterator[dict[str, Any]]:
    trigger, target = attack.trigger_name, attack.target
    single = {name: results.singles[name, ""] for name in (variant, CLEAN)}
    shown = {name: results.singles[name, trigger] for name in (variant, CLEAN)}
    ensemble = {"defence": "single", "k": 1, "d": 1, "seeds": 1}
    yield {**ensemble, **_row(single, shown, variant, target, count, 1), "touched_subsets": int(count > 0)}
    for (name, shows, (k, d, seeds), method), clean in results.certificates.items():
        if name != variant or shows or d not in attack.d:
            continue
        own = (k, d, seeds), method
        single = {variant: clean, CLEAN: results.certificates[CLEAN, "", *own]}
        shown = {v: results.certificates[v, trigger, *own] for v in (variant, CLEAN)}
        row = {"defence": method, "k": k, "d": d, "seeds": seeds, **_row(single, shown, variant, target, count, k)}
        check = results.checks.get((variant, k, d, seeds))
        if check is not None:
            own_check = check[(check["method"] == method) & (check["trigger"] == trigger)]
            row |= {name: int(own_check[name].item()) for name in CHECKED}
        elif not count:
            row |= dict.fromkeys(CHECKED, 0)
        yield row


def _row(
    clean: Mapping[str, pd.DataFrame],
    triggered: Mapping[str, pd.DataFrame],
    variant: str,
    target: int,
    count: int,
    k: int,
) -> dict[str, Any]:
    """The poisoned ensemble's rates, beside its clean-trained twin's and what the twin certifies."""
    twin = measure(clean[CLEAN], triggered[CLEAN], target)
    return {
        **measure(clean[variant], triggered[variant], target),
        "clean_twin_accuracy": twin["clean_accuracy"],
        "clean_twin_asr": twin["asr"],
        **certified(clean[CLEAN], triggered[CLEAN], target, count),
        "largest_radius": largest_radius(k),
        "claim": _claim(count, k),
    }


def measure(clean: pd.DataFrame, triggered: pd.DataFrame, target: int) -> dict[str, float]:
    """Accuracy on clean test images, ASR, and accuracy on triggered images of other classes than the target.

    Both tables have one row per test image with `label` and `prediction`.
    """
    others = triggered[triggered["label"] != target]
    return {
        "n_test": len(clean),
        "n_triggered": len(others),
        "clean_accuracy": float((clean["prediction"] == clean["label"]).mean()),
        "asr": float((others["prediction"] == target).mean()),
        "triggered_accuracy": float((others["prediction"] == others["label"]).mean()),
    }


def certified(clean: pd.DataFrame, triggered: pd.DataFrame, target: int, poisoned: int) -> dict[str, float]:
    """Certified accuracy of the clean-trained ensemble against any attack that replaces as many images.

    A replaced image is a deletion and an insertion, so the radius that counts is twice the number. Images of the
    target class are left out of the triggered ones.
    """
    others = triggered[triggered["label"] != target]
    return {
        f"certified_{name}": float(((rows["prediction"] == rows["label"]) & (rows["radius"] >= 2 * poisoned)).mean())
        for name, rows in (("clean", clean), ("triggered", others))
    }


def matrix(runs: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Means over the seeds of the poisoned sets, one row per attack, number and defence.

    Every rate has the two intervals of `intervals.over_seeds`.
    """
    rows = []
    for setting, own in runs.groupby(SETTING, sort=False, dropna=False):
        row: dict[str, Any] = dict(zip(SETTING, setting, strict=True))
        row["poison_seeds"] = len(own)
        for rate in RATES:
            n = int(own["n_test" if rate == "clean_accuracy" else "n_triggered"].iloc[0])
            row |= over_seeds(rate, own[rate].to_numpy(np.float64), n, confidence)
        row |= {name: own[name].iloc[0] for name in ("clean_twin_accuracy", "clean_twin_asr")}
        row |= {name: own[name].iloc[0] for name in ("certified_clean", "certified_triggered", "largest_radius")}
        row["claim"] = own["claim"].iloc[0]
        row |= {f"mean_{name}": own[name].mean() for name in CHECKED}
        row |= {name: own[name].iloc[0] for name in ("n_test", "n_triggered")}
        rows.append(row)
    return pd.DataFrame(rows)


def _claim(poisoned: int, k: int) -> str:
    """What can be said at all of an attack that replaces so many images."""
    if not poisoned:
        return "no attack"
    return "within reach of a certificate" if 2 * poisoned <= largest_radius(k) else "empirical only"


def largest_radius(k: int) -> int:
    """No certificate of an ensemble of k partitions is larger: all k votes agree, and a poison closes a lead by 2."""
    return k // 2
