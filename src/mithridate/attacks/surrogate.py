"""The attacker's own network, in training while it poisons: the costs as functions of one flat vector of weights.

BatchNorm: training steps use the batch's statistics, as the victim does; the costs whose gradients and Hessian enter
the linear system are taken in evaluation mode, on the running statistics as they then are. Those are constants, so that
the lower cost is a sum over images and belongs, with the upper cost, to one function of the weights: the network as it
is certified. In training mode every image would move the statistics of all others, which no certified network does.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mithridate.attacks.costs import upper_cost
from mithridate.attacks.hypergradient import Adam
from mithridate.errors import InputError
from mithridate.models.registry import builder, class_logits, initialise
from mithridate.options.smoothing import BilevelOptions, MacerOptions, Procedure, ProcedureOptions, SmoothAdvOptions
from mithridate.streams import Stream
from mithridate.training.costs import Logits, gaussian_loss, macer_loss, smoothadv_loss


@dataclass(frozen=True)
class Setting:
    """What is attacked, and how; with the data it determines the poison."""

    procedure: Procedure
    model: str
    sigma: float
    epsilon: float
    """largest change of a pixel"""
    seed: int
    """experiment seed"""
    options: BilevelOptions
    constants: ProcedureOptions
    """of this very procedure"""
    device: str = "cpu"
    """kind of device: cpu or cuda"""

    def describe(self) -> dict[str, Any]:
        """Plain values, for metadata and digests."""
        own = {"options": self.options.model_dump(mode="json"), "constants": self.constants.attack_constants()}
        return {**asdict(self), **own}


class Surrogate:
    """A network for images of `shape` (channels, height, width), initialised from the stream `name`, with its optimiser
    and the linear system's solution `vector`, both [n] for n weights."""

    def __init__(self, setting: Setting, shape: tuple[int, int, int], num_classes: int, *name: int) -> None:
        self.setting, options = setting, setting.options
        stream = Stream("bilevel init", setting.seed, setting.procedure, *name)
        network = initialise(builder(setting.model), shape, num_classes, stream)
        self.network = network.to(setting.device).requires_grad_(False)
        parameters = dict(self.network.named_parameters())
        self._shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self.weights = torch.cat([parameter.flatten() for parameter in parameters.values()])
        self.vector = torch.zeros_like(self.weights)
        flat = (1, len(self.weights))
        self.weight_steps = Adam(flat, options.learning_rate, setting.device)
        self.vector_steps = Adam(flat, options.vector_rate, setting.device)

        self._check(shape, num_classes)

    def _check(self, shape: tuple[int, int, int], num_classes: int) -> None:
        """A network that is none for these images and classes is an error at once."""
        model = self.setting.model
        try:
            logits = self._logits(self.weights, False)(torch.zeros(2, *shape, device=self.setting.device))
        except Exception as error:  # a user's own code
            raise InputError(f"smoothing.model: {model} does not take images of shape {shape}: {error}") from error
        if logits.shape != (2, num_classes):
            raise InputError(
                f"smoothing.model: {model} must return logits [batch, {num_classes}], not {list(logits.shape)}."
            )

    def tensors(self) -> dict[str, Tensor]:
        """The whole state, for checkpoints; the tensors themselves."""
        state = {"weights": self.weights, "vector": self.vector}
        state |= {f"buffer.{name}": buffer for name, buffer in self.network.named_buffers()}
        for optimiser in ("weight_steps", "vector_steps"):
            state |= {f"{optimiser}.{name}": tensor for name, tensor in getattr(self, optimiser).tensors().items()}
        return state

    def train(self, images: Tensor, labels: Tensor, noise: Tensor) -> None:
        """One Adam step on the weights."""
        weights = self.weights.requires_grad_()
        gradient = torch.autograd.grad(self.lower(weights, images, labels, noise, training=True), weights)[0]
        self.weights = self.weight_steps.step_all(weights.detach(), gradient)

    def lower(self, weights: Tensor, images: Tensor, labels: Tensor, noise: Tensor, *, training: bool) -> Tensor:
        """The mean training cost of images [B,C,H,W], as cheap as the attacker can afford it; noise is [B,C,H,W], for
        MACER [B,K,C,H,W]. Differentiable, and so is its gradient."""
        logits, setting = self._logits(weights, training), self.setting
        constants = setting.constants
        if isinstance(constants, MacerOptions):
            how = {"sigma": setting.sigma, "weight": setting.options.macer_weight, "squeeze": setting.options.squeeze}
            return macer_loss(logits, images, labels, noise, beta=constants.beta, gamma=constants.gamma, **how).mean()
        if isinstance(constants, SmoothAdvOptions):
            epsilon, steps = constants.epsilon, constants.steps
            search = self._logits(weights.detach(), False)
            return smoothadv_loss(logits, images, labels, noise, epsilon=epsilon, steps=steps, search=search).mean()
        return gaussian_loss(logits, images, labels, noise).mean()

    def upper(self, weights: Tensor, images: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        """The attacker's mean cost of held-out images; noise is [B,K,C,H,W]."""
        options = self.setting.options
        how = {"sigma": self.setting.sigma, "beta": options.beta, "squeeze": options.squeeze}
        return upper_cost(self._logits(weights, False), images, labels, noise, **how).mean()

    def _logits(self, weights: Tensor, training: bool) -> Logits:
        """The network as a function of images alone, differentiable by the flat weights."""
        parts = weights.split([shape.numel() for shape in self._shapes.values()])
        named = {name: part.view(shape) for part, (name, shape) in zip(parts, self._shapes.items(), strict=True)}

        def logits(images: Tensor) -> Tensor:
            return class_logits(torch.func.functional_call(self.network.train(training), named, (images,)))

        return logits
