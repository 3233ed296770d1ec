"""What a configuration asks for, run by run: which ensemble, trained on which variant, is shown which test images."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from mithridate.options.attacks import CLEAN, AttackOptions, Variant, triggers, variants
from mithridate.options.dpa import FINITE, PARTITIONED
from mithridate.options.root import Options


@dataclass(frozen=True)
class Ensemble:
    """k·d subsets, `seeds` base classifiers each."""

    k: int
    d: int
    seeds: int

    @property
    def name(self) -> str:
        """k50d1, or k50d1m3 for three seeds."""
        return f"k{self.k}d{self.d}" + (f"m{self.seeds}" if self.seeds > 1 else "")

    def row(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Run:
    """An ensemble trained on a variant of the training set and shown the clean test images or triggered ones."""

    variant: str
    ensemble: Ensemble
    trigger: str
    """"" for the clean test images"""

    def row(self) -> dict[str, Any]:
        """What the tables say of it."""
        return {
            "variant": self.variant,
            "inputs": "triggered" if self.trigger else CLEAN,
            "trigger": self.trigger,
            **self.ensemble.row(),
            "radius_meaning": "from_clean" if self.variant == CLEAN else "further_poisons",
        }


class Runs:
    """All runs of partition aggregation."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.variants: dict[str, Variant] = variants(options.attacks)
        self.triggers: dict[str, AttackOptions] = triggers(options.attacks)
        dpa = options.dpa
        self.ensembles = [Ensemble(k, d, m) for k in dpa.k for d in dpa.d for m in dpa.seeds if self.methods(d)]

    def methods(self, d: int) -> list[str]:
        """The certificates of single test images asked for that exist for ensembles with d subsets a bucket."""
        return [method for method in self.options.dpa.methods if method in (PARTITIONED if d == 1 else FINITE)]

    def collective(self) -> list[Ensemble]:
        """The ensembles with a certificate for the whole test set at once."""
        asked = "collective" in self.options.dpa.methods
        return [e for e in self.ensembles if e.d == 1] if asked else []

    def inputs(self, variant: str) -> list[str]:
        """The test images that ensembles of a variant are shown: the clean ones (""), and each trigger's."""
        return ["", *(self.triggers if variant == CLEAN else [self.variants[variant].attack.trigger_name])]

    def attacked(self) -> list[tuple[str, Ensemble]]:
        """Poisoned variants, each with the ensembles that are trained on it."""
        d = {name: attack.d for attack in self.options.attacks for name in variants([attack])}
        return [(name, e) for name in self.variants for e in self.ensembles if e.d in d[name]]

    def all(self) -> list[Run]:
        """Clean runs first; the clean test images before triggered ones."""
        trained = [*((CLEAN, e) for e in self.ensembles), *self.attacked()]
        return [Run(variant, e, trigger) for variant, e in trained for trigger in self.inputs(variant)]


def boosts(seeds: str) -> list[str]:
    """The endings of the files of a subset's base classifiers: one for "", three for "m3"."""
    return ["", *(f"-seed{number}" for number in range(1, int(seeds.removeprefix("m") or 1)))]


def folders(runs: Iterable[Run]) -> list[str]:
    """The runs' folders below results/{dataset}/dpa/."""
    return [
        f"{run.variant}/{run.ensemble.name}/" + (f"triggered/{run.trigger}/" if run.trigger else "") for run in runs
    ]
