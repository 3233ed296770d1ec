"""results/badnet_repair.csv from what was judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mithridate.options.badnet import Rule
from mithridate.repair.goodnet import clean_metrics, goodnet_output, triggered_metrics
from mithridate.repair.judging import STRIP, SUSPICIOUS, TWIN, Judged

SHARES = ("clean_accuracy", "frr", "accuracy_unflagged", "asr", "flagged", "far", "recovered")
ENDS = ("", "_low", "_high")


@dataclass(frozen=True, eq=False)
class Defence:
    """A way to answer: its output rule, and the repaired network it asks (none: the suspicious one)."""

    name: str
    rule: Rule
    repair: str = SUSPICIOUS

    def outputs(self, judged: Judged) -> np.ndarray:
        return goodnet_output(
            self.rule,
            judged.num_classes,
            badnet=judged.classes[SUSPICIOUS],
            repaired=judged.classes[self.repair],
            flagged=judged.flagged,
        )

    def seconds_per_thousand(self, judged: Sequence[Judged]) -> float:
        """Time to answer for 1,000 images, from what the judging of files took."""
        asked = {self.repair} if self.rule in ("repaired", "combination") else {SUSPICIOUS, self.repair}
        asked |= {STRIP} if self.rule in ("strip", "combination") else set()
        spent = sum(one.seconds[part] for one in judged for part in asked)
        count = sum(len(one.labels) for one in judged)
        return 1000 * spent / count if count else float("nan")


def defences(repairs: Sequence[str]) -> list[Defence]:
    """No defence; every repair by itself and in agreement with the suspicious network; STRIP; and the combination of
    STRIP with the last repair."""
    rules: tuple[Rule, Rule] = ("repaired", "agreement")
    single = [Defence(repair, rule, repair) for repair in repairs for rule in rules]
    return [
        Defence("none", "repaired"),
        *single,
        Defence("STRIP", "strip"),
        Defence("combined", "combination", repairs[-1]),
    ]


def tabulate(
    names: Mapping[str, Any],
    clean: Sequence[Judged],
    triggered: Mapping[str, Judged],
    repairs: Sequence[str],
    seconds: Mapping[str, float],
    confidence: float,
) -> pd.DataFrame:
    """The rows of one network: for each file of triggered images (one row without a trigger where there is none) each
    defence. Clean columns are over the images of all clean files together; shares with Clopper–Pearson intervals.

    names: columns that all rows begin with; seconds: of building each repair, and STRIP. Columns: trigger, defence,
    rule, clean_accuracy (C counts as wrong), frr, accuracy_unflagged, n_clean; asr, flagged, far, recovered (nan where
    true classes are not known), n_triggered; twin_clean_accuracy and twin_asr of the clean twin, where there is one;
    repair_seconds and seconds_per_1000 images.
    """
    rows = []
    shown: Mapping[str, Judged | None] = triggered or {"": None}
    for trigger, judged in shown.items():
        files = [*clean, *([judged] if judged is not None else [])]
        for defence in defences(repairs):
            row = {**names, "trigger": trigger, "defence": defence.name, "rule": defence.rule}
            row |= _clean(clean, defence, confidence) | _triggered(judged, defence, confidence)
            row |= _twin(clean, judged, confidence)
            parts = [defence.repair] + ([STRIP] if defence.rule in ("strip", "combination") else [])
            row["repair_seconds"] = sum(seconds.get(part, 0.0) for part in parts)
            row["seconds_per_1000"] = defence.seconds_per_thousand(files)
            rows.append(row)
    return pd.DataFrame(rows)


def _clean(clean: Sequence[Judged], defence: Defence, confidence: float) -> dict[str, float]:
    if not clean:
        return {"n_clean": 0, **_nothing(SHARES[:3])}
    outputs = np.concatenate([defence.outputs(one) for one in clean])
    return clean_metrics(outputs, np.concatenate([one.labels for one in clean]), clean[0].num_classes, confidence)


def _triggered(judged: Judged | None, defence: Defence, confidence: float) -> dict[str, float]:
    if judged is None:
        return {"n_triggered": 0, **_nothing(SHARES[3:])}
    known = judged.true_labels, judged.labels, judged.num_classes, confidence
    return triggered_metrics(defence.outputs(judged), *known)


def _twin(clean: Sequence[Judged], judged: Judged | None, confidence: float) -> dict[str, float]:
    """Of the twin as it is; nan where there is none."""
    twin, found = Defence("twin", "repaired", TWIN), _nothing(("twin_clean_accuracy", "twin_asr"))
    if clean and TWIN in clean[0].classes:
        found |= {f"twin_{key}": value for key, value in _clean(clean, twin, confidence).items()}
    if judged is not None and TWIN in judged.classes:
        found |= {f"twin_{key}": value for key, value in _triggered(judged, twin, confidence).items()}
    return {key: found[key] for key in _nothing(("twin_clean_accuracy", "twin_asr"))}


def _nothing(shares: Sequence[str]) -> dict[str, float]:
    return {f"{share}{end}": float("nan") for share in shares for end in ENDS}
