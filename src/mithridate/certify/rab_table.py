"""RAB's table: every training set, kind of test images, noise, bound and radius."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mithridate.certify.rab import certified_radius, curve, strength
from mithridate.options.attacks import CLEAN, AttackOptions, variants
from mithridate.options.rab import RabOptions


@dataclass(frozen=True, eq=False)
class Certified:
    """The certificates of the networks trained on one variant with one noise: see rab.example_rows, with `trigger`."""

    variant: str
    sigma: float
    rows: pd.DataFrame


def tabulate(
    runs: Sequence[Certified],
    norms: Mapping[str, np.ndarray],
    options: RabOptions,
    *,
    num_classes: int,
    confidence: float,
) -> pd.DataFrame:
    """One row per run, kind of test images, bound and radius.

    norms: of the trigger patterns on the training images of each poisoned variant. A variant's own strength is one of
    its radii: what is certified there holds against that attack. Of triggered test images those of the target are left
    out.
    """
    tables = []
    for run in runs:
        own = strength(norms[run.variant]) if run.variant != CLEAN else 0.0
        for shown, rows in _shown(run, options):
            about: dict[str, Any] = {
                "task": options.task,
                "variant": run.variant,
                **shown,
                "poisoned_images": len(norms.get(run.variant, ())),
                "attack_strength": own,
                "sigma": run.sigma,
                "models": options.models,
                "alpha": options.alpha,
            }
            table = curve(
                rows,
                sorted({*options.radii, own}),
                confidence,
                models=options.models,
                sigma=run.sigma,
                alpha=options.alpha,
                num_classes=num_classes,
            )
            most = [
                float(certified_radius(options.models, options.models, run.sigma, options.alpha, num_classes, bound))
                for bound in table["bound"]
            ]
            table["largest_radius"] = most
            for position, (name, value) in enumerate(about.items()):
                table.insert(position, name, value)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _shown(run: Certified, options: RabOptions) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """The clean test images, and those of other classes than the target with each attack's trigger."""
    of = variants(options.attacks)
    attacks: Sequence[AttackOptions] = options.attacks if run.variant == CLEAN else [of[run.variant].attack]
    own = {"attack": "", "target": ""} if run.variant == CLEAN else _named(attacks[0])
    yield {"inputs": CLEAN, "trigger": "", **own}, run.rows[run.rows["trigger"] == ""]
    for attack in attacks:
        target = options.renumbered(attack).target
        chosen = (run.rows["trigger"] == attack.trigger_name) & (run.rows["label"] != target)
        yield {"inputs": "triggered", "trigger": attack.trigger_name, **_named(attack)}, run.rows[chosen]


def _named(attack: AttackOptions) -> dict[str, str]:
    """An attack by name, and its target as the data set numbers it."""
    return {"attack": attack.name, "target": str(attack.target)}
