"""How victims of randomized smoothing are trained: on noise, on adversarial examples under noise, or for the radius.

Sources: Cohen et al., ICML 2019 (Gaussian augmentation); Salman et al., NeurIPS 2019 (SmoothAdv); Zhai et al., ICLR
2020 (MACER). The losses are in `costs`; noise is new in every step, and each member's own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mithridate.models.registry import class_logits
from mithridate.noise import Normal
from mithridate.training.costs import Logits, gaussian_loss, macer_loss, smoothadv_loss
from mithridate.training.stack import Stack


@dataclass(frozen=True)
class Noising:
    """A training procedure and its constants; those of other procedures are zero."""

    procedure: str
    """gaussian, smoothadv or macer"""
    sigma: float
    """standard deviation of the noise, images being in [0, 1]"""
    draws: int = 1
    """noises per image (MACER's K)"""
    epsilon: float = 0.0
    """SmoothAdv's L2 radius"""
    steps: int = 0
    """SmoothAdv's steps"""
    warmup_epochs: int = 0
    """epochs over which SmoothAdv's radius grows"""
    weight: float = 0.0
    """of MACER's robustness loss"""
    beta: float = 0.0
    """inverse temperature of MACER's soft votes"""
    gamma: float = 0.0
    """MACER's largest margin"""


class NoisyLoss:
    """The loss of a stack's images under a procedure. Noise and radii lie in buffers that a captured step may read."""

    def __init__(self, noising: Noising, stack: Stack, batch: int, shape: tuple[int, int, int], device: str) -> None:
        self.noising, self.stack, self.device = noising, stack, device
        self.noise = torch.zeros(stack.width, batch, noising.draws, *shape, device=device)
        self.epsilon = torch.zeros(stack.width, 1, device=device)
        self._sources: dict[int, Normal] = {}

    def enter(self, slot: int, *name: str | int) -> None:
        """A member with the noise of the stream `name` enters a slot."""
        self._sources[slot] = Normal(*name, device=self.device)

    def lay_out(self, slot: int, epoch: int) -> None:
        """New noise for the slot's next step, which is in this epoch."""
        self._sources[slot].fill(self.noise[slot])
        self.noise[slot].mul_(self.noising.sigma)
        share = min(1, (epoch + 1) / max(self.noising.warmup_epochs, 1))
        self.epsilon[slot] = self.noising.epsilon * share

    def __call__(self, images: Tensor, labels: Tensor, mask: Tensor | None, bf16: bool) -> Tensor:
        """Losses [T,B] of images [T,B,C,H,W] in [0, 1] with labels [T,B]; the first B noises of each slot are used."""
        how, (width, batch) = self.noising, labels.shape
        logits, noise = self._logits(mask, bf16), self.noise[:, :batch].flatten(0, 1)
        flat, classes = images.flatten(0, 1), labels.flatten()
        if how.procedure == "macer":
            constants = {"sigma": how.sigma, "weight": how.weight, "beta": how.beta, "gamma": how.gamma}
            losses = macer_loss(logits, flat, classes, noise, **constants)
        elif how.procedure == "smoothadv":
            epsilon = self.epsilon.expand(width, batch).flatten()
            search = self._searching(self._logits(None, bf16))
            losses = smoothadv_loss(logits, flat, classes, noise[:, 0], epsilon=epsilon, steps=how.steps, search=search)
        else:
            losses = gaussian_loss(logits, flat, classes, noise[:, 0])
        return losses.view(width, batch)

    def _logits(self, mask: Tensor | None, bf16: bool) -> Logits:
        """The stack as a function of images [T·B·K, C,H,W], the members' one after another."""

        def logits(images: Tensor) -> Tensor:
            stacked = images.unflatten(0, (self.stack.width, -1))
            wide = None if mask is None else mask.repeat_interleave(stacked.shape[1] // mask.shape[1], 1)
            with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
                output = self.stack(stacked, wide)
            return class_logits(output.float()).flatten(0, 1)

        return logits

    def _searching(self, logits: Logits) -> Logits:
        """The same in evaluation mode, in which SmoothAdv looks for its examples."""

        def search(images: Tensor) -> Tensor:
            self.stack.eval()
            try:
                return logits(images)
            finally:
                self.stack.train()

        return search
