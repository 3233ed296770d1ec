"""Options of randomized smoothing: its victims, the poisoning attack against them, and certification."""

import math
from statistics import NormalDist
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, field_validator, model_validator

from mithridate.options.base import Batch, Count, Listed, Seeds, Strict, Whole, distinct
from mithridate.options.models import Model
from mithridate.options.training import NO_AUGMENTATION, TrainingOptions, plain_adam

Procedure = Literal["gaussian", "smoothadv", "macer"]
FINAL_SHARE = 0.5  # of alpha, where certification stops early: spent on the bound after the last draw, the rest before
SMALLEST = 1e-6  # change of a pixel, or deviation of the noise
VICTIMS_ONLY = ("draws", "weight", "warmup_epochs")


class ProcedureOptions(Strict):
    """Where one procedure departs from what holds for all; null: as smoothing.training or smoothing.attack says."""

    epochs: Count | None = None
    """passes of the victims over the training set (null: as smoothing.training says)"""
    batch_size: Batch | None = None
    """images in a batch of the victims (null: as smoothing.training says)"""
    augmentation: bool = True
    """whether victims' images are augmented as smoothing.training says"""
    attack_epochs: Count | None = None
    """passes of the attack (null: as smoothing.attack says)"""
    attack_restart: Count | None = None
    """epochs of the attack after which its network is drawn anew (null: as smoothing.attack says)"""
    attack_weight_steps: Count | None = None
    """the attack's Adam steps on the network per batch, T1 (null: as smoothing.attack says)"""
    attack_vector_rate: PositiveFloat | None = None
    """the attack's learning rate of the linear system's solution (null: as smoothing.attack says)"""

    def victim_constants(self) -> dict[str, Any]:
        """Plain values of what only this procedure's losses have."""
        return self.model_dump(mode="json", exclude=set(ProcedureOptions.model_fields))

    def attack_constants(self) -> dict[str, Any]:
        """Those that the attack uses too."""
        return {key: value for key, value in self.victim_constants().items() if key not in VICTIMS_ONLY}


class GaussianOptions(ProcedureOptions):
    pass


class SmoothAdvOptions(ProcedureOptions):
    epsilon: PositiveFloat = 0.25
    """L2 radius of the adversarial examples"""
    steps: Count = 2
    """gradient steps towards an adversarial example, each of length 2·epsilon/steps"""
    warmup_epochs: Whole = 10
    """epochs over which the radius grows to epsilon"""


class MacerOptions(ProcedureOptions):
    draws: Batch = 4
    """noises per image (K)"""
    weight: NonNegativeFloat = 4.0
    """weight of the robustness loss (lambda)"""
    beta: PositiveFloat = 16.0
    """inverse temperature of the soft votes"""
    gamma: PositiveFloat = 8.0
    """radius, in units of sigma/2, beyond which an image counts no more"""


CONSTANTS: dict[str, type[ProcedureOptions]] = {
    "gaussian": GaussianOptions,
    "smoothadv": SmoothAdvOptions,
    "macer": MacerOptions,
}


class BilevelOptions(Strict):
    """The attack of Mehra et al. (CVPR 2021), ApproxGrad; the paper's settings for MNIST are in config/mnist.yaml."""

    epochs: Count = 20
    """passes over the target class's images"""
    restart: Count = 10
    """epochs after which the network is drawn anew; the images stay"""
    clean_batch: Count = 200
    """images of the other classes in a batch"""
    poison_batch: Count = 45
    """images of the target class in a batch"""
    validation_batch: Count = 12
    """held-out images of the target class whose certified radius is driven down"""
    weight_steps: Count = 10
    """Adam steps on the network per batch (T1)"""
    vector_steps: Count = 10
    """Adam steps on the solution of the linear system per batch (T2)"""
    learning_rate: PositiveFloat = 1e-3
    """of the network"""
    vector_rate: PositiveFloat = 1e-2
    """of the linear system's solution"""
    image_rate: PositiveFloat = 0.1
    """of the poisoned images"""
    damping: PositiveFloat = 1e-3
    """what is added to the Hessian's diagonal"""
    draws: Count = 20
    """noises per held-out image in the attacker's cost (K)"""
    beta: PositiveFloat = 16.0
    """inverse temperature of the soft votes in the attacker's cost"""
    squeeze: Annotated[float, Field(gt=0, lt=0.5)] = 1e-3
    """by how much probabilities are kept away from 0 and 1 (a)"""
    macer_draws: Count = 1
    """noises per image in the attacker's model of MACER"""
    macer_weight: NonNegativeFloat = 1.0
    """weight of the robustness loss in the attacker's model of MACER"""
    shared_state: bool = False
    """one optimiser state for all batches of images, as in the public code, instead of one per image"""


class CertifyOptions(Strict):
    n0: Count = 100
    """noises from which the class is chosen"""
    n: Count = 10_000
    """noises from which its probability is bounded"""
    alpha: Annotated[float, Field(ge=1e-12, lt=0.5)] = 0.001
    """probability with which a certificate may be wrong, for each test image by itself"""
    points: Count = 16
    """test images of the target class that are certified, drawn at random (all where there are fewer)"""
    other_points: Whole = 10
    """test images of the other classes that are certified"""
    chunk: Count = 1000
    """noises drawn at once; part of the noise's name, so it changes results as a seed does"""
    sequential: bool = False
    """stop as soon as the certificate at `stop_radius` is decided, by a bound that holds at every time"""
    stop_radius: NonNegativeFloat = 0.0
    """radius at which sequential certification stops"""
    radii: Annotated[list[NonNegativeFloat], Listed, Field(min_length=1)] = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75]
    """radii of the table, L2; with `sequential` those up to stop_radius alone"""

    @field_validator("radii")
    @classmethod
    def _distinct(cls, radii: list[float]) -> list[float]:
        return distinct(radii)

    @model_validator(mode="after")
    def _stops(self) -> Self:
        if self.sequential and min(self.radii) > self.stop_radius:
            raise ValueError(
                f"radii: none is at most stop_radius = {self.stop_radius:g}, beyond which nothing is certified; add one"
            )
        return self

    @property
    def last_alpha(self) -> float:
        """What is left of alpha for the last look."""
        return self.alpha * FINAL_SHARE if self.sequential else self.alpha


class SmoothingOptions(Strict):
    procedures: Annotated[list[Procedure], Listed] = ["gaussian", "smoothadv", "macer"]
    """how victims are trained: with Gaussian noise, on adversarial examples under noise, or to maximise the certified radius (none: no smoothing)"""
    sigma: Annotated[list[Annotated[float, Field(ge=SMALLEST, le=100)]], Listed, Field(min_length=1)] = [0.25]
    """standard deviation of the noise in training and certification, pixels being in [0, 1]"""
    target: Whole = 8
    """class whose images are poisoned and whose certified radius the attack drives down"""
    epsilon: Annotated[float, Field(ge=0, le=1)] = 0.1
    """largest change of a pixel of a poisoned image"""
    quantised: bool = False
    """round poisoned images towards the originals to whole grey levels before victims see them"""
    own: str | None = None
    """a poisoned training set of your own that victims are trained on too: a folder with X_train.npy and Y_train.npy, rows as in results/{dataset}/smoothing/splits/clean"""
    transfer: bool = True
    """also train every procedure on the poisons made against the others"""
    other_model: Model | None = "mlp"
    """another architecture, on which the poison against the first procedure is tried too"""
    seeds: Seeds = 2
    """victims per training set, trained from different random numbers"""
    model: Model = "smoothing_digits"
    """architecture: smoothing_digits, smoothing_mnist, resnet20, any other, or your own as package.module:function"""
    training: TrainingOptions = plain_adam(28, batch_size=100, learning_rate=4e-3, decay="linear", strategy="loop")
    """how victims are trained; few seeds side by side are no faster on a CPU (strategy: grouped, with width: seeds, trains them so)"""
    attack: BilevelOptions = BilevelOptions()
    """the poisoning attack"""
    gaussian: GaussianOptions = GaussianOptions()
    """what is different for Gaussian augmentation"""
    smoothadv: SmoothAdvOptions = SmoothAdvOptions(attack_weight_steps=1, attack_vector_rate=1e-3)
    """SmoothAdv's constants, and what is different for it"""
    macer: MacerOptions = MacerOptions(attack_vector_rate=1e-4)
    """MACER's constants, and what is different for it"""
    certify: CertifyOptions = CertifyOptions()
    """how victims are certified"""

    @field_validator("epsilon")
    @classmethod
    def _large_enough(cls, epsilon: float) -> float:
        if 0 < epsilon < SMALLEST:
            raise ValueError(f"give 0 or at least {SMALLEST:g}; no image changes by less")
        return epsilon

    @field_validator("procedures", "sigma")
    @classmethod
    def _distinct(cls, values: list[object]) -> list[object]:
        return distinct(values)

    @field_validator("training")
    @classmethod
    def _plain(cls, training: TrainingOptions) -> TrainingOptions:
        if training.label_smoothing or training.epochs is None:
            raise ValueError("victims need epochs (and steps: null) and label_smoothing: 0; their losses know no other")
        if training.one_seed_for_all:
            raise ValueError("one_seed_for_all would make all seeds' victims the same; leave it out")
        return training

    @model_validator(mode="after")
    def _certifiable(self) -> Self:
        alpha = self.certify.last_alpha
        if self.certify.n < (least := math.ceil(-math.log2(alpha))):
            largest = self.sigma[0] * NormalDist().inv_cdf(alpha ** (1 / least))
            raise ValueError(
                f"certify.n: {self.certify.n} noises certify nothing at alpha = {alpha:g}; the least number is {least},"
                f" and the largest radius possible with it {largest:.4f} at sigma = {self.sigma[0]:g}"
            )
        largest = min(self.sigma) * NormalDist().inv_cdf(alpha ** (1 / self.certify.n))
        if self.certify.sequential and largest <= self.certify.stop_radius:
            raise ValueError(
                f"certify.stop_radius: {self.certify.stop_radius:g} is out of reach; the largest radius possible with"
                f" n = {self.certify.n} is {largest:.4f} at sigma = {min(self.sigma):g}"
            )
        return self

    @model_validator(mode="after")
    def _other(self) -> Self:
        if self.other_model == self.model:
            raise ValueError("other_model is the same as model; give another architecture, or null for none")
        return self

    def constants(self, procedure: Procedure) -> ProcedureOptions:
        """The block of a procedure."""
        return {"gaussian": self.gaussian, "smoothadv": self.smoothadv, "macer": self.macer}[procedure]

    def victims(self, procedure: Procedure) -> TrainingOptions:
        """How victims of a procedure are trained."""
        own = self.constants(procedure)
        changed = {key: value for key in ("epochs", "batch_size") if (value := getattr(own, key)) is not None}
        if not own.augmentation:
            changed["augmentation"] = NO_AUGMENTATION
        return self.training.model_copy(update=changed)

    def bilevel(self, procedure: Procedure) -> BilevelOptions:
        """How a procedure is attacked."""
        own = self.constants(procedure)
        keys = ("epochs", "restart", "weight_steps", "vector_rate")
        changed = {key: value for key in keys if (value := getattr(own, f"attack_{key}")) is not None}
        return self.attack.model_copy(update=changed)
