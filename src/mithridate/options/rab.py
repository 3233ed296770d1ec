"""Options of RAB: certified training by smoothing the training set."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from mithridate.options.attacks import AttackOptions
from mithridate.options.base import Count, Listed, Strict, Whole, distinct
from mithridate.options.models import Model
from mithridate.options.training import NO_AUGMENTATION, TrainingOptions, plain_adam

Positive = Annotated[float, Field(gt=0)]


MOST_CLASSES = 50


class RabOptions(Strict):
    classes: Annotated[list[Whole], Field(min_length=2)] | None = [1, 0]
    """classes to tell apart, in this order; the published tasks are pairs (null: all, which is beyond them)"""
    sigma: Annotated[list[Positive], Listed, Field(min_length=1)] = [0.5]
    """standard deviation of the Gaussian noise on every training image, pixels being in [0, 1]"""
    models: Annotated[int, Field(ge=0, le=100_000)] = 100
    """networks, each trained on a noised copy of the training set of its own (0: no RAB)"""
    alpha: Annotated[float, Field(ge=1e-12, lt=0.5)] = 0.001
    """probability with which a certificate may be wrong, for each test image by itself"""
    bounds: Annotated[list[Literal["clopper-pearson", "hoeffding"]], Listed, Field(min_length=1)] = [
        "clopper-pearson",
        "hoeffding",
    ]
    """how the vote is bounded: clopper-pearson counts hard votes, hoeffding averages probabilities, as the paper does"""
    radii: Annotated[list[Annotated[float, Field(ge=0)]], Listed, Field(min_length=1)] = [0, 0.2, 0.5, 1, 2, 5]
    """radii of the table: L2 norm over the trigger patterns of all poisoned images together"""
    attacks: list[AttackOptions] = [
        AttackOptions(delta=0.1, poisoned=[5], target=0, seeds=1),
        AttackOptions(delta=1, poisoned=[5], target=0, seeds=1),
    ]
    """backdoors planted in the task's training set, as in `attacks`; the target is one of `classes`"""
    model: Model = "rab_mlp"
    """architecture: rab_mlp (digits), rab_cnn (MNIST), rab_resnet (CIFAR-10), any other, or your own as package.module:function"""
    training: TrainingOptions = plain_adam(30, batch_size=32)
    """how each network is trained; augmentation would void the certificate and is refused"""
    batch_size: Count = 256
    """test images per forward pass"""

    @field_validator("classes", "sigma", "bounds", "radii")
    @classmethod
    def _distinct(cls, values: list[object] | None) -> list[object] | None:
        if values is not None and len(values) > MOST_CLASSES:
            raise ValueError(f"files are named by it, so give at most {MOST_CLASSES} (classes: null for all)")
        return values if values is None else distinct(values)

    @field_validator("models")
    @classmethod
    def _enough(cls, models: int) -> int:
        if models == 1:
            raise ValueError("one network certifies nothing; give at least 2, or 0 for no RAB")
        return models

    @field_validator("training")
    @classmethod
    def _plain(cls, training: TrainingOptions) -> TrainingOptions:
        if training.augmentation != NO_AUGMENTATION:
            raise ValueError("augmentation must be off: training must see the noised images alone")
        return training

    @property
    def task(self) -> str:
        """The task's folder: 1v0, or all."""
        return "all" if self.classes is None else "v".join(map(str, self.classes))

    def renumbered(self, attack: AttackOptions) -> AttackOptions:
        """An attack with classes as the task numbers them: by their position in `classes`."""
        if self.classes is None:
            return attack
        number = {name: position for position, name in enumerate(self.classes)}
        sources = attack.sources and [number[name] for name in attack.sources]
        return attack.model_copy(update={"target": number[attack.target], "sources": sources})
