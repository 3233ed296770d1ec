"""Options of the family trainer."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, model_validator

from mithridate.options.base import Batch, Count, Strict, Whole

Share = Annotated[float, Field(ge=0, lt=1)]


class AugmentationOptions(Strict):
    crop_padding: Annotated[int, Field(ge=0, le=1000)] = 1
    """pad with this many black pixels on each side and crop back at random: shifts by up to so many pixels"""
    flip: bool = False
    """mirror left and right with probability 1/2"""
    rotation: Annotated[float, Field(ge=0, le=180)] = 15.0
    """largest rotation in degrees, either way"""
    scaling: Share = 0.15
    """largest relative change of size, either way"""


NO_AUGMENTATION = AugmentationOptions(crop_padding=0, flip=False, rotation=0, scaling=0)


class TrainingOptions(Strict):
    epochs: Count | None = None
    """passes over a subset, the last batch of each being smaller (give epochs or steps, not both)"""
    steps: Count | None = 150
    """steps of full batches, drawn from one reshuffled pass after the other (give epochs or steps, not both)"""
    batch_size: Batch = 32
    """images per step"""
    optimiser: Literal["sgd", "adam"] = "sgd"
    """sgd: with Nesterov momentum; adam: with its authors' constants"""
    learning_rate: Annotated[float, Field(gt=0)] = 0.2
    """peak learning rate"""
    momentum: Share = 0.9
    """Nesterov momentum (sgd), or decay β₁ of the mean gradient (adam)"""
    weight_decay: NonNegativeFloat = 1e-2
    """L2 penalty on every parameter"""
    decay: Literal["linear", "step", "constant"] = "linear"
    """how the learning rate falls; linear: to zero at the end; step: times decay_factor after each of decay_epochs; constant: not at all"""
    decay_epochs: list[Whole] = []
    """0-based epochs after which the learning rate falls (decay: step)"""
    decay_factor: Annotated[float, Field(gt=0, le=1)] = 0.2
    """factor of each fall (decay: step)"""
    warmup: Share = 0.2
    """share of the steps over which the learning rate rises linearly to its peak"""
    label_smoothing: Share = 0.1
    """weight of the uniform distribution in the targets"""
    augmentation: AugmentationOptions = AugmentationOptions()
    """random changes to each training image, drawn anew at every step"""
    one_seed_for_all: bool = False
    """start every base classifier from the same random stream instead of one keyed by its subset's number"""
    strategy: Literal["auto", "loop", "grouped"] = "auto"
    """loop: one member after another; grouped: tiles of members side by side in grouped convolutions; auto: on a CPU as measured for the architecture, on a card loop"""
    width: Annotated[int, Field(ge=1, le=1024)] | None = None
    """members in one tile of the grouped strategy (null: as measured); part of the result's identity, not of its meaning"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: automatic mixed precision; faster where the processor has it"""
    channels_last: bool = True
    """memory layout of images and activations"""
    cuda_graphs: bool = True
    """replay a captured step on CUDA devices (no effect on a CPU)"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("exactly one of epochs and steps must be given; set the other to null")
        if self.decay == "step" and self.epochs is None:
            raise ValueError("decay: step counts epochs, so it needs epochs (and steps: null)")
        return self


def plain_adam(epochs: int, **changed: Any) -> TrainingOptions:
    """Adam at a constant rate without augmentation, decay or smoothing, as most papers train small networks."""
    plain = {"optimiser": "adam", "learning_rate": 1e-3, "weight_decay": 0, "decay": "constant", "warmup": 0}
    plain |= {"label_smoothing": 0, "augmentation": NO_AUGMENTATION, "channels_last": False}
    return TrainingOptions(**{"epochs": epochs, "steps": None, **plain, **changed})
