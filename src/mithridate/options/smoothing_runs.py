"""What randomized smoothing asks for, victim by victim: which procedure is trained on which training set."""

from dataclasses import dataclass
from typing import Any

from mithridate.options.attacks import CLEAN
from mithridate.options.base import number
from mithridate.options.smoothing import Procedure, SmoothingOptions

OTHER = "-other"  # ending of the folders of the other architecture


@dataclass(frozen=True)
class Victim:
    """Networks of one procedure, noise and architecture, one per seed, trained on one training set."""

    procedure: Procedure
    sigma: float
    model: str
    training_set: str
    """clean, poisoned, random, transfer (a poison made against another procedure or architecture) or own"""
    poison: str
    """name of the poison; clean for none"""
    other: bool
    """whether it is of the other architecture"""

    @property
    def folder(self) -> str:
        """Below results/{dataset}/smoothing/."""
        return f"{self.poison}/{self.procedure}-s{number(self.sigma)}{OTHER if self.other else ''}"

    def row(self) -> dict[str, Any]:
        """What the tables say of it."""
        poison = "" if self.poison == CLEAN else self.poison
        names = {"procedure": self.procedure, "sigma": self.sigma, "model": self.model}
        return {**names, "training_set": self.training_set, "poison": poison}


def poison_name(options: SmoothingOptions, procedure: str, sigma: float | None = None) -> str:
    """Name of a poison of the configured radius and class: gaussian-s0.5-e0.1-t8, or random-e0.1-t8 without a noise."""
    noise = "" if sigma is None else f"-s{number(sigma)}"
    return f"{procedure}{noise}-e{number(options.epsilon)}-t{options.target}"


def victims(options: SmoothingOptions) -> list[Victim]:
    """All victims, each followed by what it is compared with."""
    result = []
    for sigma in options.sigma:
        for procedure in options.procedures:
            others = [p for p in options.procedures if p != procedure] if options.transfer else []
            sets = {CLEAN: CLEAN, poison_name(options, procedure, sigma): "poisoned"}
            sets[poison_name(options, "random")] = "random"
            if options.own is not None:
                sets[poison_name(options, "own")] = "own"
            sets |= {poison_name(options, other, sigma): "transfer" for other in others}
            result += [Victim(procedure, sigma, options.model, kind, name, False) for name, kind in sets.items()]
        if options.other_model is not None and options.procedures:
            first = options.procedures[0]
            sets = {CLEAN: CLEAN, poison_name(options, first, sigma): "transfer"}
            sets[poison_name(options, "random")] = "random"
            result += [Victim(first, sigma, options.other_model, kind, name, True) for name, kind in sets.items()]
    return result
