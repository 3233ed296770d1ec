"""STRIP: an input whose prediction stays the same whatever is laid over it carries a trigger.

Source: Gao et al., "STRIP: A Defence Against Trojan Attacks on Deep Neural Networks", ACSAC 2019, equations 3 and 4.
It is the backdoored network that is asked: in a repaired one the trigger no longer dominates. Only clean held-out
images are needed, as overlays and to set the boundary.
"""

import hashlib
from copy import deepcopy
from dataclasses import dataclass
from math import ceil, floor
from statistics import NormalDist
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from mithridate.data.checks import shape_text
from mithridate.errors import InputError
from mithridate.models.registry import class_logits
from mithridate.options.badnet import StripOptions
from mithridate.progress import Progress
from mithridate.repair.predict import finite, pixels
from mithridate.streams import Stream
from mithridate.training.stack import keep_channels_last

CARD_ROWS = 10_000  # images that pass through the network at once on a card
LARGEST_WORD = np.uint64(2**64 - 1)
FINEST = 65_535  # levels from black to white in which images are told apart
ROUNDING = 1e-9  # of a number of images
FINE = 100_000  # steps of a rate that is proposed


class Strip:
    """The statistic of STRIP on one network (images [B,C,H,W] in [0, 1] to logits, in evaluation mode).

    overlays: clean images [M,C,H,W], uint8, taken times `scale`, or float32 in [0, 1]. Those of an input are N
    different ones, drawn by a stream of random numbers of the seed and the input's own pixels; an overlay equal to the
    input is never among them. So its value depends on the image, the network and the overlays alone: not on other
    inputs, their order, or the file that it comes from.

    The network sees batches of one fixed shape, the last one filled up, so that values do not depend on the fill. With
    several inputs in a batch (options.batch_size >= 2N) last bits may depend on an input's place in it, where a
    library's kernels treat rows differently; no difference was seen on a CPU.
    """

    def __init__(
        self,
        network: nn.Module,
        overlays: np.ndarray,
        *,
        options: StripOptions,
        seed: int,
        scale: float = 1 / 255,
        device: str = "cpu",
    ) -> None:
        if options.overlays > len(overlays):
            raise InputError(
                f"badnet.strip.overlays: {options.overlays} different overlays are asked for, but there are"
                f" {len(overlays)} clean images to lay over: ask for fewer, or hold out more images."
            )
        self.network = keep_channels_last(deepcopy(network)).to(device).eval()
        laid = pixels(overlays, scale)
        self.places: dict[str, list[int]] = {}
        for place, name in enumerate(_names(laid)):
            self.places.setdefault(name, []).append(place)
        self.shape = laid.shape[1:]
        # Channels last in memory, as convolutions want it; contiguous() would do nothing for a single channel.
        self.overlays = laid.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).to(device)
        self.options, self.seed, self.scale, self.device = options, seed, scale, device
        rows = options.batch_size or (options.overlays if device == "cpu" else CARD_ROWS)
        self.inputs = max(1, rows // options.overlays)

    def values(self, images: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """The statistic of each image, float64 [n]: entropy in bits, mean over the overlays, or the number of distinct
        predicted classes (at ties of logits the smaller).

        Raises InputError for images of another shape and outputs of the network that are not finite.
        """
        if images.shape[1:] != self.shape:
            raise InputError(
                f"inputs are {shape_text(images.shape[1:])}, but overlays {shape_text(self.shape)}"
                " (channels, height, width): give images of the same shape."
            )
        found = []
        for start in range(0, len(images), self.inputs):
            x = pixels(images[start : start + self.inputs], self.scale)
            count = len(x)
            chosen = np.zeros((self.inputs, self.options.overlays), np.int64)
            chosen[:count] = [self._chosen(name) for name in _names(x)]
            x = torch.cat([x, x.new_zeros(self.inputs - count, *x.shape[1:])]).to(self.device)
            found.append(self._statistic(x, torch.from_numpy(chosen).to(self.device))[:count].cpu().numpy())
            if progress is not None:
                progress.add(count)
        return np.concatenate([np.zeros(0), *found])

    def chosen(self, images: np.ndarray) -> np.ndarray:
        """Places of the images' overlays: int64 [n, N], increasing. Raises InputError where, besides those that equal
        an image, there are fewer than N."""
        found = [self._chosen(name) for name in _names(pixels(images, self.scale))]
        return np.array(found, np.int64).reshape(-1, self.options.overlays)

    def _chosen(self, name: str) -> np.ndarray:
        """They are those of the N smallest of M random words."""
        words, own = Stream("strip", self.seed, name).raw(len(self.overlays)), self.places.get(name, [])
        words[own] = LARGEST_WORD
        if self.options.overlays > len(words) - len(own):
            raise InputError(
                f"badnet.strip.overlays: an image is itself one of the {len(words)} overlays, which leaves fewer than"
                f" {self.options.overlays} for it: ask for fewer."
            )
        if self.options.overlays == len(words):
            return np.arange(len(words))
        return np.sort(np.argpartition(words, self.options.overlays)[: self.options.overlays])

    @torch.no_grad()
    def _statistic(self, x: Tensor, chosen: Tensor) -> Tensor:
        """Of inputs [I,C,H,W] under overlays at places int64 [I,N]: float64 [I]."""
        laid = self.overlays[chosen.flatten()].unflatten(0, chosen.shape)
        laid = self._superimpose(x.permute(0, 2, 3, 1)[:, None], laid)
        logits = finite(class_logits(self.network(laid.flatten(0, 1).permute(0, 3, 1, 2))))
        if self.options.statistic == "labels":
            classes = logits.argmax(1).view(chosen.shape).sort(1).values
            return 1 + (classes[:, 1:] != classes[:, :-1]).sum(1).double()
        return entropy(logits).view(chosen.shape).mean(1)

    def _superimpose(self, x: Tensor, laid: Tensor) -> Tensor:
        """`laid` is overwritten."""
        if self.options.statistic == "labels":
            return laid.add_(x)
        if self.options.overlay == "convex":
            return laid.add_(x).mul_(0.5)
        return laid.add_(x).clamp_(max=1)


def _names(images: Tensor) -> list[str]:
    """A name for the pixels of each image in [0, 1], the same whatever last bits their scaling left."""
    levels = (images.cpu() * FINEST).round().numpy().astype("<u2")
    return [hashlib.sha256(image.tobytes()).hexdigest()[:32] for image in levels]


def entropy(logits: Tensor) -> Tensor:
    """−Σ p log₂ p of the probabilities that logits [n, classes] stand for: bits, float64 [n]."""
    log = logits.double().log_softmax(1)
    return -(log.exp() * log).sum(1) / np.log(2)


@dataclass(frozen=True)
class Boundary:
    """Inputs with a statistic of at most `value` are flagged: `flagged` of the `images` that it was set on."""

    value: float
    kind: Literal["empirical", "normal"]
    frr: float
    images: int
    flagged: int

    def flags(self, values: np.ndarray) -> np.ndarray:
        """bool [n]."""
        return np.asarray(values) <= self.value


def calibrate(values: np.ndarray, frr: float, kind: Literal["empirical", "normal"] = "empirical") -> Boundary:
    """The boundary from the statistics [m] of clean calibration images, for a false rejection rate of frr.

    empirical: the largest value at which at most k = ⌊frr · m⌋ of the m images are flagged, −inf where ties leave none.
    If calibration images and a new clean image are exchangeable (drawn from one population, none used in training the
    network, the overlays being fixed), the new one is flagged with probability at most (k + 1) / (m + 1), and at most
    k / (m + 1) <= frr where no two values are equal, as of entropies. That probability is over the drawing of both. For
    one calibration set in use, the rate among new clean images is a number that varies with the set: of distribution
    Beta(k, m + 1 − k) where values have a continuous distribution.

    normal: mean + Φ⁻¹(frr) · deviation of the values, as in the published code, which promises none of it.

    Raises InputError for values that are no numbers, and where there are too few: empirical needs 1/frr.
    """
    values = np.sort(np.asarray(values, np.float64))
    m = len(values)
    if not 0 < frr < 1 or not np.isfinite(values).all() or m < 2:
        raise InputError(
            f"badnet.split: STRIP's boundary needs at least 2 calibration images with finite values, and 0 < frr < 1;"
            f" there are {m}, and frr is {frr:g}: hold out more images."
        )
    if kind == "normal":
        value = float(values.mean() + NormalDist().inv_cdf(frr) * values.std())
    else:
        allowed = floor(frr * m + ROUNDING)
        if not allowed:
            raise InputError(
                f"badnet.strip.frr: with {m} calibration images a share of {frr:g} is less than one image: hold out"
                f" more, raise frr to {ceil(FINE / m) / FINE:g} or more, or choose boundary: normal."
            )
        smaller = values[values < values[allowed]]  # every value that no more than `allowed` images reach
        value = float(smaller[-1]) if len(smaller) else -np.inf
    return Boundary(value, kind, frr, m, int((values <= value).sum()))
