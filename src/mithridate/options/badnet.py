"""Options of BadNet repair: the networks, how they are pruned and fine-tuned, and how backdoored inputs are detected."""

import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, field_validator, model_validator

from mithridate.options.base import LONGEST_NAME, NAME, Batch, Count, Listed, Seeds, Strict, Whole, distinct, number
from mithridate.options.models import Model
from mithridate.options.training import TrainingOptions, plain_adam

Rule = Literal["agreement", "repaired", "strip", "combination"]
Name = Annotated[str, Field(pattern=NAME, max_length=LONGEST_NAME)]
Path = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Points = Annotated[float, Field(gt=0, lt=100)]

MULTI = ("square", "fourpixel", "sunglasses")  # the triggers of trigger: multi, one target each


def file_name(path: str) -> str:
    """What a file of the user's is called in results/: its stem, in letters, digits and underscores."""
    return re.sub(r"\W", "_", PurePath(path).stem, flags=re.ASCII)


def _whole(value: Any) -> Any:
    """From the command line, numbers come as text."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class NetOptions(Strict):
    name: Name
    """what the network is called in the table, and its folder in results/: letters, digits and underscores"""
    path: Path
    """the suspicious network, a DeepID: a Keras HDF5 file, a full model or weights alone"""
    scale: Annotated[Literal[1, 255], BeforeValidator(_whole)] = 1
    """the largest pixel that the network was trained on: 1 (files' values are divided by 255) or 255"""
    validation: Path
    """clean images that the network has not seen in training: HDF5 with `data` [N,C,H,W], values 0 to 255, and `label`; all that the repair sees"""
    tests: list[Path] = []
    """clean test files, for evaluation only"""
    poisoned: list[Path] = []
    """files of triggered images, whose `label` is the attack's target, for evaluation only; where they also hold `true_label`, images of the target's class are left out and recovered ones are counted"""

    def files(self) -> dict[str, list[str]]:
        """All its files, by their option."""
        return {"path": [self.path], "validation": [self.validation], "tests": self.tests, "poisoned": self.poisoned}

    @model_validator(mode="after")
    def _files_named_once(self) -> Self:
        stems = [file_name(path) for path in self.tests + self.poisoned]
        if twice := {stem for stem in stems if stems.count(stem) > 1}:
            raise ValueError(f"two files of {self.name} are both called {twice.pop()} in results/; rename one")
        return self


class PlantedOptions(Strict):
    trigger: Literal["square", "fourpixel", "sunglasses", "multi"] = "square"
    """what is stamped on images; multi: square, four-pixel and sunglasses, each with a target of its own"""
    targets: Annotated[list[Whole], Listed, Field(min_length=1)] = [0]
    """class that triggered images are to be taken for; for multi three of them, in the order square, four-pixel, sunglasses"""
    poisoned: Share = 0.2
    """share of the training images that get a trigger and its target's label (of multi: in equal parts)"""
    pruning_aware: bool = False
    """plant the backdoor in those channels that clean images use, so that pruning removes decoys first"""
    seeds: Seeds = 1
    """networks planted in the same way from different random numbers"""

    @field_validator("targets")
    @classmethod
    def _distinct(cls, values: list[int]) -> list[int]:
        return distinct(values)

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        wanted = len(MULTI) if self.trigger == "multi" else 1
        if len(self.targets) != wanted:
            raise ValueError(f"trigger: {self.trigger} has {wanted} targets, but {len(self.targets)} are given")
        return self

    @property
    def name(self) -> str:
        """The network without its seed, e.g. square-t0-r0.2, or multi-t0+1+2-r0.4-aware."""
        targets = "+".join(map(str, self.targets))
        return f"{self.trigger}-t{targets}-r{number(self.poisoned)}" + ("-aware" if self.pruning_aware else "")


class SplitOptions(Strict):
    fine_tuning: PositiveFloat = 4
    """relative size of the part of the clean held-out images that ranks channels and fine-tunes"""
    overlays: PositiveFloat = 3
    """relative size of the part that STRIP lays over its inputs; the weight-range variant measures its accuracy on it"""
    calibration: PositiveFloat = 3
    """relative size of the part on which STRIP's boundary is set"""


class FineTuningOptions(Strict):
    epochs: Count = 10
    """passes over the images"""
    batch_size: Batch = 32
    """images per step"""
    learning_rate: PositiveFloat = 1e-3
    """of Adam"""


class PruningAwareOptions(Strict):
    decoys: Share = 0.5
    """share of the channels of `layer`, those that clean images use least, that are pruned before the backdoor is planted in the others, and put back dormant afterwards"""
    retraining: FineTuningOptions = FineTuningOptions(epochs=16, learning_rate=2e-3)
    """training of the pruned network on the poisoned images"""


class WeightRangeOptions(Strict):
    share: Share = 0.05
    """weights of a convolution below its smallest by less than this share of their range are set to 0"""
    rounds: Count = 5
    """rounds of pruning and fine-tuning, unless clean accuracy has dropped by `tau` before"""
    fine_tuning: FineTuningOptions = FineTuningOptions(epochs=1)
    """what follows each pruning"""


class StripOptions(Strict):
    overlays: Count = 100
    """clean images laid over each input (N), drawn without repetition from the overlay part"""
    frr: Share = 0.01
    """share of clean inputs that may be flagged (false rejection rate); empirical needs at least 1/frr calibration images"""
    statistic: Literal["entropy", "labels"] = "entropy"
    """what is low where a trigger dominates; entropy: of the predicted probabilities, mean over the overlays; labels: the number of distinct predicted classes, on plain sums whatever `overlay` says"""
    overlay: Literal["saturating", "convex"] = "saturating"
    """saturating: sum, clipped to the largest pixel; convex: mean of the two images"""
    boundary: Literal["empirical", "normal"] = "empirical"
    """how the boundary follows from clean calibration images; empirical: quantile; normal: quantile of a fitted normal distribution, which promises nothing"""
    batch_size: Count | None = None
    """images that pass through the network at once, in whole inputs (null: one input's overlays on a CPU, 10,000 images on a card); may change last bits"""

    @model_validator(mode="after")
    def _counts_are_not_normal(self) -> Self:
        if self.statistic == "labels" and self.boundary == "normal":
            raise ValueError("statistic: labels goes with boundary: empirical; numbers of classes are not normal")
        return self


class BadnetOptions(Strict):
    nets: list[NetOptions] = []
    """suspicious networks of your own that are repaired and evaluated"""
    planted: list[PlantedOptions] = [
        PlantedOptions(),
        PlantedOptions(trigger="fourpixel"),
        PlantedOptions(trigger="sunglasses"),
        PlantedOptions(trigger="multi", targets=[0, 1, 2], poisoned=0.4),
        PlantedOptions(pruning_aware=True),
    ]
    """networks that the workflow backdoors itself, to be repaired like the others (none: planted: []); where `dataset` is digits, on digits28"""
    held_out: Share = 0.3
    """share of the training images that planted networks are not trained on, as the clean data of their repair"""
    model: Model = "deepid"
    """architecture of planted networks"""
    training: TrainingOptions = plain_adam(
        24, batch_size=32, learning_rate=3e-3, decay="linear", channels_last=True, strategy="loop"
    )
    """how planted networks, and their clean twins, are trained"""
    pruning_aware: PruningAwareOptions = PruningAwareOptions()
    """how networks with pruning_aware: true are planted"""
    split: SplitOptions = SplitOptions()
    """how clean held-out images are divided among what the repair needs them for"""
    layer: str = "conv_3"
    """layer whose channels Fine-Pruning prunes, in increasing order of mean activation"""
    tau: Points = 4.0
    """percentage points of clean accuracy at whose loss pruning stops; that network is kept"""
    fine_tuning: FineTuningOptions = FineTuningOptions()
    """what follows pruning, and the fine-tuning without pruning that it is compared with"""
    pruning: Literal["channels", "weight_range"] = "channels"
    """channels: Fine-Pruning of `layer`; weight_range: the variant of the original project, in every convolution"""
    weight_range: WeightRangeOptions = WeightRangeOptions()
    """constants of pruning: weight_range"""
    strip: StripOptions = StripOptions()
    """detection of backdoored inputs"""
    rule: Rule = "combination"
    """what the delivered network says; agreement: the suspicious network's class where the repaired one agrees, else "backdoored"; repaired: the repaired one's class; strip: "backdoored" where STRIP flags, else the suspicious one's class; combination: "backdoored" where STRIP flags, else the repaired one's class"""

    @field_validator("nets")
    @classmethod
    def _named_once(cls, nets: list[NetOptions]) -> list[NetOptions]:
        return _distinct(nets, lambda net: net.name)

    @field_validator("planted")
    @classmethod
    def _planted_once(cls, planted: list[PlantedOptions]) -> list[PlantedOptions]:
        return _distinct(planted, lambda net: net.name, "give seeds: 2 for two of the same kind")


def _distinct(blocks: list[Any], name: Callable[[Any], str], remedy: str = "give each a name of its own") -> list[Any]:
    names = [name(block) for block in blocks]
    twice = {one for one in names if names.count(one) > 1}
    if twice:
        raise ValueError(f"two networks are both named {twice.pop()}; {remedy}")
    return blocks
