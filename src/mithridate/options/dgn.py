"""Options of adversarial data generation. Names are those of the original project's config.json where it has them."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, field_validator, model_validator

from mithridate.options.base import Batch, Count, Listed, Seeds, Strict, Whole, distinct
from mithridate.options.models import Model
from mithridate.options.training import TrainingOptions, plain_adam

Loss = Literal["lrp", "nce", "suspiciousness"]
Attack = Literal["fgsm", "pgd", "autoattack"]
Share = Annotated[float, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


PGD = ["eps_steps_pgd", "max_iterations_pgd", "num_random_init_pgd"]


def _without_effect(block: Strict, keys: list[str], where: str) -> None:
    """Raises ValueError for a key that is not at its default but changes nothing."""
    for key in keys:
        if getattr(block, key) != type(block).model_fields[key].default:
            raise ValueError(f"{key} has no effect {where}; leave it out")


class AdversarialTrainingOptions(Strict):
    """Training of a robust network on original and adversarial images."""

    adv_training_type: Literal["gf", "default"] = "gf"
    """gf: Goodfellow et al., a fresh network, part of the loss on original and part on stored adversarial images; default: ART's own adversarial trainer, which attacks the network while it trains (attacks: fgsm, pgd)"""
    adv_ratio: Share = 0.5
    """weight of the adversarial images in the loss (gf), share of them in a batch (default)"""
    adv_num_epochs: Count = 10
    """passes over the training images"""
    adv_batch_size: Batch = 100
    """original images per step"""
    adv_learning_rate: PositiveFloat = 1e-3
    """of Adam, at the start"""
    adv_decay_step: Count = 1000
    """steps after which the learning rate falls"""
    adv_decay_rate: Annotated[float, Field(gt=0, le=1)] = 0.9
    """factor of each fall"""
    adv_momentum: Momentum = 0.9
    """Adam's first decay (β₁)"""
    adv_weight_decay: NonNegativeFloat = 0
    """L2 penalty on every parameter"""

    @model_validator(mode="after")
    def _default_attacks(self) -> Self:
        if self.adv_training_type == "default" and self.adv_ratio == 0:
            raise ValueError("adv_ratio: adv_training_type default needs a share above 0; raise it, or choose gf")
        return self


class GeneratorOptions(AdversarialTrainingOptions):
    custom_loss: Loss = "lrp"
    """lrp: darkens relevant pixels and brightens the others; nce: negative cross-entropy of the target; suspiciousness: activates the target's suspicious neurons"""
    custom_loss_constant: Share | None = None
    """weight α of the loss against its other part (null: 0.5 for lrp, 0.8 for suspiciousness); nce has none"""
    gamma: NonNegativeFloat = 0.5
    """weight of the neurons that are not suspicious (custom_loss: suspiciousness)"""
    k: Count = 20
    """relevant pixels of a class (lrp); suspicious neurons, or feature maps of each convolution (suspiciousness)"""
    activation_threshold: float = 0
    """a neuron is active above it (suspiciousness)"""
    num_epochs: Count = 40
    """passes over the images of the largest class; the other generators take as many steps"""
    batch_size: Batch = 100
    """images per step and generator"""
    learning_rate: PositiveFloat = 1e-3
    """of Adam, at the start"""
    decay_step: Count = 1000
    """steps after which the learning rate falls"""
    decay_rate: Annotated[float, Field(gt=0, le=1)] = 0.9
    """factor of each fall"""
    momentum: Momentum = 0.9
    """Adam's first decay (β₁)"""
    weight_decay: NonNegativeFloat = 0
    """L2 penalty on every parameter"""
    mis_classification_check: bool = False
    """keep only generated training images that the target takes for another class"""
    clipping: bool = True
    """bring generated images into the ε-ball and [0, 1]; without it they may be anywhere in [0, 1]"""

    @model_validator(mode="after")
    def _every_key_acts(self) -> Self:
        if self.custom_loss == "nce" and self.custom_loss_constant is not None:
            raise ValueError("custom_loss_constant: nce has no constant; leave it out")
        others = {"lrp": ["gamma", "activation_threshold"], "nce": ["gamma", "activation_threshold", "k"]}
        _without_effect(self, others.get(self.custom_loss, []), f"with custom_loss: {self.custom_loss}")
        if self.adv_training_type == "default":
            raise ValueError(
                "adv_training_type: default attacks the network while it trains, which generators cannot do"
            )
        return self

    @property
    def alpha(self) -> float:
        """The weight that is used."""
        default = 0.8 if self.custom_loss == "suspiciousness" else 0.5
        return default if self.custom_loss_constant is None else self.custom_loss_constant

    @property
    def name(self) -> str:
        return self.custom_loss


class GradientAttackOptions(AdversarialTrainingOptions):
    attacks: Literal["fgsm", "pgd"] = "fgsm"
    """fgsm: one step of size ε along the gradient's sign; pgd: many small ones"""
    eps_steps_pgd: PositiveFloat = 0.01
    """size of a step (pgd)"""
    max_iterations_pgd: Count = 20
    """steps (pgd)"""
    num_random_init_pgd: Whole = 1
    """random starts within the ε-ball, of which the worst counts; 0: one, at the image (pgd)"""
    true_labels: bool = True
    """attack the true class; false: the class that the network predicts, as the original does (adv_training_type: default always attacks the true one)"""
    mode: Literal["both", "only_attack", "only_adv_training"] = "both"
    """both: the attack is a column and a network trained on it a row of the matrix; or only one of the two"""

    @model_validator(mode="after")
    def _every_key_acts(self) -> Self:
        if self.attacks == "fgsm":
            _without_effect(self, PGD, "with attacks: fgsm")
        if self.mode == "only_attack":
            _without_effect(self, list(AdversarialTrainingOptions.model_fields), "with mode: only_attack")
        return self

    @property
    def name(self) -> str:
        return self.attacks


class AutoAttackOptions(Strict):
    versions: Annotated[list[Literal["apgd-ce", "apgd-dlr", "deepfool", "square"]], Listed, Field(min_length=1)] = [
        "apgd-ce",
        "apgd-dlr",
    ]
    """attacks that are tried one after another on what is still right (deepfool stands where the authors have FAB, which ART lacks; apgd-dlr needs 3 classes)"""
    iterations: Count = 20
    """steps of each (square: queries)"""
    restarts: Count = 5
    """random starts of each (deepfool has none)"""

    @field_validator("versions")
    @classmethod
    def _once(cls, values: list[str]) -> list[str]:
        return distinct(values)

    @property
    def name(self) -> str:
        return "autoattack"


class EvaluationOptions(Strict):
    attacks: Annotated[list[Attack], Listed] = ["fgsm", "pgd", "autoattack"]
    """white-box attacks on every network, with the true labels"""
    points: Count | None = None
    """test images that are attacked white-box, drawn from the seed (null: all)"""
    epsilons: list[Share] = [0.05, 0.1, 0.2, 0.3]
    """radii of the curves of robust accuracy under PGD"""
    eps_steps_pgd: PositiveFloat = 0.03
    """size of a step of PGD at the full ε; at smaller radii in proportion"""
    max_iterations_pgd: Count = 20
    """steps of PGD"""
    num_random_init_pgd: Whole = 5
    """random starts of PGD"""
    autoattack: AutoAttackOptions = AutoAttackOptions()
    """budget of AutoAttack"""

    @field_validator("attacks")
    @classmethod
    def _once(cls, values: list[Attack]) -> list[Attack]:
        return distinct(values)


class TargetOptions(Strict):
    model: Model = "dgn_dense"
    """architecture of the target and of the robust networks: dgn_dense, dgn_conv, or your own from nn.Sequential"""
    path: str | None = None
    """a trained target of your own: a Keras HDF5 file of a Sequential network (null: it is trained)"""
    training: TrainingOptions = plain_adam(20, batch_size=128)
    """how the target is trained"""


class DgnOptions(Strict):
    epsilon: Share = 0.3
    """largest change of a pixel, pixels being in [0, 1]"""
    seeds: Seeds = 1
    """repetitions of everything from other random numbers"""
    target: TargetOptions = TargetOptions()
    """the undefended network"""
    generators: list[GeneratorOptions] = [
        GeneratorOptions(custom_loss="lrp"),
        GeneratorOptions(custom_loss="nce"),
        GeneratorOptions(custom_loss="suspiciousness"),
    ]
    """systems of data generating networks, one network per class"""
    attacks: list[GradientAttackOptions] = [GradientAttackOptions(attacks="fgsm"), GradientAttackOptions(attacks="pgd")]
    """gradient attacks on the target, which data is generated with as well"""
    evaluation: EvaluationOptions = EvaluationOptions()
    """what every network is attacked with"""

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = [one.name for one in self.systems]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{twice.pop()} stands twice; give each loss and attack once")
        return self

    @property
    def systems(self) -> "list[GeneratorOptions | GradientAttackOptions]":
        """Everything that data is generated with, generators first."""
        return [*self.generators, *self.attacks]
