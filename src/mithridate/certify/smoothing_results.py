"""results/smoothing_cert.csv and results/smoothing_claims.csv from the certificates of all victims."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mithridate.certify.smoothing import largest_radius
from mithridate.certify.smoothing_table import Drop, acr_drop, average_certified_radius, credited, curve
from mithridate.errors import InputError
from mithridate.options.attacks import CLEAN
from mithridate.options.smoothing import SmoothingOptions
from mithridate.options.smoothing_runs import Victim

NOTHING_TO_LOSE = "clean victims certify nothing"
STOPPED = "not measured: certification stopped early"


@dataclass(frozen=True)
class Certified:
    """A victim and the certificates of its networks: columns seed and those of smoothing.example_rows."""

    victim: Victim
    rows: pd.DataFrame

    def of(self, test_classes: str, target: int) -> dict[int, pd.DataFrame]:
        """By seed, the rows of the target class ("target") or of all other classes ("others")."""
        rows = self.rows[(self.rows["label"] == target) == (test_classes == "target")].sort_values("index")
        return {int(str(seed)): table for seed, table in rows.groupby("seed")}


def tabulate(runs: Sequence[Certified], options: SmoothingOptions, confidence: float) -> pd.DataFrame:
    """One row per victim, training seed, group of test classes (target, others) and radius, L2.

    certified_accuracy with Clopper–Pearson (ci) and bootstrap intervals over the test images; acr, the average
    certified radius, with its bootstrap interval, is the same in all rows of a victim's seed and group; n is the mean
    number of noises an image; largest_radius what so many noises could certify at most, vacuous a radius beyond it;
    poison_pixels whether victims saw the poison in whole grey levels (uint8) or as it was made (float32). Where
    certification stopped early it says something of radii up to stop_radius alone: larger ones and acr are left out.
    Raises InputError where nothing is left.
    """
    how, parts = options.certify, []
    radii = [radius for radius in how.radii if not how.sequential or radius <= how.stop_radius]
    if not radii:
        raise InputError(
            f"smoothing.certify.radii: none is at most stop_radius = {how.stop_radius:g}, beyond which nothing is"
            " certified; add one."
        )
    for run in runs:
        for group in ("target", "others"):
            for seed, rows in run.of(group, options.target).items():
                table = curve(rows, radii, confidence)
                average = average_certified_radius(rows, confidence)
                known = {"acr": average.value, "acr_low": average.low, "acr_high": average.high}
                table = table.assign(**(dict.fromkeys(known, float("nan")) if how.sequential else known))
                names = {**run.victim.row(), "seed": seed, "target": options.target, "test_classes": group}
                table = table.assign(**names, n=rows["n"].mean(), alpha=how.alpha)
                table["poison_pixels"] = "uint8" if options.quantised else "float32"
                most = largest_radius(how.n, run.victim.sigma, how.last_alpha)
                table["vacuous"] = table["radius"] > most
                parts.append(
                    table.assign(largest_radius=most)[[*names, *table.columns.drop([*names]), "largest_radius"]]
                )
    return pd.concat(parts, ignore_index=True)


def claims(runs: Sequence[Certified], options: SmoothingOptions, confidence: float) -> pd.DataFrame:
    """One row per victim that is not clean and group of test classes: how far the average certified radius fell from
    the clean twin's, with its interval, and whether the claim holds that it falls by more than 30 % (Mehra et al.);
    retrained counts the networks on both sides that are no twins, since their training diverged at first."""
    clean = {_twin(run): run for run in runs if run.victim.poison == CLEAN}
    rows = []
    for run in runs:
        for group in ("target", "others"):
            before, after = (one.of(group, options.target) for one in (clean[_twin(run)], run))
            if run.victim.poison == CLEAN or not before:
                continue
            nothing = float("nan")
            if options.certify.sequential:
                drop = Drop(nothing, nothing, nothing, nothing, nothing, STOPPED, len(before), len(before[0]))
            elif all(credited(table).sum() == 0 for table in before.values()):
                left = float(np.mean([credited(table).mean() for table in after.values()]))
                drop = Drop(0.0, left, nothing, nothing, nothing, NOTHING_TO_LOSE, len(before), len(before[0]))
            else:
                drop = acr_drop(before, after, confidence)
            row = {**run.victim.row(), "target": options.target, "test_classes": group}
            row |= {"acr_clean": drop.clean, "acr": drop.poisoned, "drop": drop.drop}
            lost = [bool(table["retrained"].any()) for tables in (before, after) for table in tables.values()]
            row |= {"drop_low": drop.low, "drop_high": drop.high, "claim": drop.verdict}
            rows.append({**row, "seeds": drop.seeds, "n_test": drop.n_test, "retrained": sum(lost)})
    return pd.DataFrame(rows)


def _twin(run: Certified) -> tuple[str, float, str]:
    return run.victim.procedure, run.victim.sigma, run.victim.model
