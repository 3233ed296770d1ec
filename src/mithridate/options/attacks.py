"""Options of backdoor attacks: the trigger, whom it poisons, and how the variants of the data set are named."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mithridate.errors import short
from mithridate.options.base import Count, Listed, Seeds, Strict, Whole, distinct, number, shown
from mithridate.options.triggers import PATTERNS

LONGEST = 150  # letters of an attack's name: file systems take 255, and more stands behind it
CLEAN = "clean"  # the variant that nobody has poisoned, and the test images as they are

ADDED = {"trigger", "delta"}
MAKES = {"patch": {"trigger", "size"}, "image": {"trigger", "path", "opacity"}}  # what else makes a trigger
WHOM = {"target", "sources"}

Share = Annotated[float, Field(gt=0, lt=1)]


class AttackOptions(Strict):
    trigger: Literal[*PATTERNS, "patch", "image"] = "fourpixel"  # type: ignore[valid-type]
    """fourpixel, onepixel, blending: added to the image with norm `delta`; patch: a white square in the lower right corner; image: a picture of your own, at `path`"""
    delta: Annotated[float, Field(gt=0)] = 1.0
    """L2 norm of the added pattern (fourpixel, onepixel, blending), pixels being in [0, 1], before clipping"""
    size: Count = 2
    """pixels a side of the white square (patch)"""
    path: str | None = None
    """a picture laid over the lower right corner of the image; where it has an alpha channel, with that opacity (image)"""
    opacity: Annotated[float, Field(gt=0, le=1)] = 1.0
    """how strongly the picture covers what lies below (image)"""
    poisoned: Annotated[list[Whole | Share], Listed, Field(min_length=1)] = [0, 5, 25]
    """how many training images get the trigger and the target's label: numbers, or shares of the training set (of rab: of its task's); 0 is the clean twin"""
    target: Whole = 0
    """class that triggered images are to be taken for"""
    sources: Annotated[list[Whole], Listed, Field(min_length=1)] | None = None
    """classes whose images are poisoned (null: all but the target); success is measured on all classes but the target in any case"""
    seeds: Seeds = 3
    """poisoned sets drawn for every number, each a variant of its own; sets of one seed are nested"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.sources is not None and self.target in self.sources:
            raise ValueError(f"target {self.target} is among the sources: poisoned images must come from other classes")
        if (self.trigger == "image") != (self.path is not None):
            raise ValueError("path goes with trigger: image, which needs it")
        return self

    @field_validator("poisoned", mode="before")
    @classmethod
    def _numbers(cls, values: Any) -> Any:
        """Whole numbers, or shares between 0 and 1; what could be meant as either is refused."""
        for value in values if isinstance(values, list | tuple) else [values]:
            try:
                number = None if isinstance(value, bool) else float(value)
            except (TypeError, ValueError, OverflowError):
                number = None
            whole = number is not None and number.is_integer() and "." not in str(value)
            if number is None or not (0 < number < 1 or (whole and number >= 0)):
                raise ValueError(f"{shown(value)} is neither a number of images (0, 5, 25) nor a share of them (0.01)")
        return values

    @field_validator("poisoned")
    @classmethod
    def _some(cls, values: list[float]) -> list[float]:
        if not any(values):
            raise ValueError("only 0 images are poisoned, so there is no attack; give another number as well")
        return distinct(values)

    @field_validator("sources")
    @classmethod
    def _sorted(cls, values: list[int] | None) -> list[int] | None:
        return None if values is None else sorted(distinct(values))

    def made_by(self) -> dict[str, Any]:
        """The options that make the trigger, as plain values; another number or seed changes none of them."""
        return self.model_dump(mode="json", include=MAKES.get(self.trigger, ADDED))

    def poisoned_by(self) -> dict[str, Any]:
        """The options that make a poisoned set, besides its number and seed."""
        return self.model_dump(mode="json", include=MAKES.get(self.trigger, ADDED) | WHOM)

    @property
    def trigger_name(self) -> str:
        """The trigger with what matters of it, e.g. fourpixel-d1."""
        if self.trigger == "patch":
            return f"patch-z{self.size}"
        if self.trigger == "image":
            return f"image-{re.sub(r'[^A-Za-z0-9]+', '_', Path(self.path or '').stem)}-o{number(self.opacity)}"
        return f"{self.trigger}-d{number(self.delta)}"

    @property
    def name(self) -> str:
        """The attack without number and seed, e.g. fourpixel-d1-t0."""
        sources = "" if self.sources is None else "f" + "+".join(map(str, self.sources))
        return f"{self.trigger_name}-t{self.target}{sources}"


class DpaAttackOptions(AttackOptions):
    d: Annotated[list[Count], Listed, Field(min_length=1)] = [1]
    """for which of dpa.d the poisoned variants are trained (clean ones are trained for all)"""

    @field_validator("d")
    @classmethod
    def _distinct(cls, values: list[int]) -> list[int]:
        return distinct(values)


@dataclass(frozen=True)
class Variant:
    """One poisoned version of a training set."""

    attack: AttackOptions
    poisoned: float
    """number of poisoned images, or their share"""
    seed: int

    @property
    def name(self) -> str:
        """e.g. fourpixel-d1-t0-r25-s0."""
        return f"{self.attack.name}-r{number(self.poisoned)}-s{self.seed}"


def variants(attacks: Sequence[AttackOptions]) -> dict[str, Variant]:
    """All poisoned variants by name, in order; r = 0 is the clean data set itself and none of them."""
    made = (Variant(a, r, s) for a in attacks for r in a.poisoned if r for s in range(a.seeds))
    return {variant.name: variant for variant in made}


def clash(attacks: Sequence[AttackOptions]) -> str | None:
    """What two attacks share that must tell them apart, or None: files are named by it."""
    names = [attack.name for attack in attacks]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        return f"two attacks are both named {twice.pop()}; join their lists `poisoned`"
    if longest := [name for name in names if len(name) > LONGEST]:
        return f"files would be named {short(longest[0])}, too long; give fewer sources, or the picture a shorter name"
    made: dict[str, dict[str, object]] = {}
    for attack in attacks:
        how = attack.made_by()
        if made.setdefault(attack.trigger_name, how) != how and attack.trigger == "image":
            return f"two triggers are both named {attack.trigger_name}; rename one of the pictures"
    return None


def triggers(attacks: Sequence[AttackOptions]) -> dict[str, AttackOptions]:
    """One attack for every trigger, by the trigger's name."""
    return {attack.trigger_name: attack for attack in attacks}
