"""RAB's training sets: noised copies of one training set, made when a member is trained and never stored.

Source: Weber et al., "RAB: Provable Robustness Against Backdoor Attacks", IEEE S&P 2023, section 4 and algorithm 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mithridate.noise import gaussian
from mithridate.training.subset import Subset

BLOCK = 64  # images whose noise is drawn at once; public, since it is part of the noise's name


@dataclass(frozen=True)
class Noised:
    """Images in [0, 1] plus Gaussian noise of deviation `sigma`, in stored order.

    The noise of an image is named by (experiment seed, member, stored index) and by nothing that an attacker can
    change: not by its content, its label, or the other images.
    """

    images: np.ndarray
    """uint8 [n,C,H,W], stored values"""
    scale: float
    sigma: float
    seed: int
    member: int
    device: str

    def __array__(self, dtype: None = None, copy: bool | None = None) -> np.ndarray:
        shape = (BLOCK, *self.images.shape[1:])
        noised = np.empty(self.images.shape, np.float32)
        for block, start in enumerate(range(0, len(noised), BLOCK)):
            part = torch.from_numpy(np.array(self.images[start : start + BLOCK])).to(self.device)
            noise = gaussian(shape, "rab", self.seed, self.member, block, device=self.device)[: len(part)]
            noised[start : start + BLOCK] = (part * self.scale + noise * self.sigma).cpu().numpy()
        return noised


def noised_copies(
    members: Sequence[int],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    scale: float,
    sigma: float,
    seed: int,
    device: str,
) -> list[Subset]:
    """What each member is shown: its noised copy, the labels as they are, and no statistics of the data."""
    channels = images.shape[1]
    return [
        Subset(m, Noised(images, scale, sigma, seed, m, device), labels, np.zeros(channels), np.ones(channels))
        for m in members
    ]
