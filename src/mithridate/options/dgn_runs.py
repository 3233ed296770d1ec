"""What adversarial data generation asks for: which systems make columns and rows of the matrix."""

from mithridate.options.dgn import DgnOptions

UNDEFENDED = "none"
RANDOM = "random"
FAILED = "attack failed"  # what the table notes of an attack that the undefended target withstands


def attacks(options: DgnOptions) -> list[str]:
    """Systems whose test images every network is shown."""
    return [one.name for one in options.systems if getattr(one, "mode", "both") != "only_adv_training"]


def defences(options: DgnOptions) -> list[str]:
    """Systems that a robust network is trained on."""
    return [one.name for one in options.systems if getattr(one, "mode", "both") != "only_attack"]


def generators(options: DgnOptions) -> list[str]:
    return [one.name for one in options.generators]


def shown(options: DgnOptions) -> list[str]:
    """Sets of adversarial test images, as system/part below a repetition's folder: those of all attacks, the generators
    of wrong classes, and random ±ε."""
    own = [f"{name}/test" for name in attacks(options)]
    return own + [f"{name}/wrong" for name in generators(options)] + [f"{RANDOM}/test"]
