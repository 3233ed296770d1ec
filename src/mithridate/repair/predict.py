"""What a network says of images, asked in batches of one shape."""

from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from mithridate.data.checks import shape_text
from mithridate.errors import InputError
from mithridate.models.registry import class_logits
from mithridate.training.stack import keep_channels_last

BATCH = 64  # images: enough to keep a CPU busy, and little to fill up for a single image


def pixels(images: np.ndarray, scale: float, device: str = "cpu") -> Tensor:
    """float32 [n,C,H,W] in [0, 1] on the device, of uint8 images, taken times `scale`, or float32 ones.

    Raises InputError for anything else.
    """
    values = torch.from_numpy(np.array(images)).to(device)
    if images.ndim == 4 and images.dtype == np.uint8:
        values = values * scale
    elif images.ndim != 4 or images.dtype != np.float32:
        raise InputError(
            f"images are {images.dtype}, {shape_text(images.shape)}: give uint8, or float32 within [0, 1], [n,C,H,W]."
        )
    if not bool(((values >= 0) & (values <= 1)).all()):  # NaN is neither
        raise InputError("images have pixels outside [0, 1], or NaN: give the scale that takes their values to [0, 1].")
    return values


def batches(images: np.ndarray, scale: float, device: str, size: int = BATCH) -> Iterator[tuple[Tensor, int]]:
    """Batches of exactly `size` images, the last one filled up with black ones; with how many are real."""
    for start in range(0, len(images), size):
        batch = pixels(images[start : start + size], scale, device)
        count = len(batch)
        yield torch.cat([batch, batch.new_zeros(size - count, *batch.shape[1:])]), count


@torch.no_grad()
def predictions(network: nn.Module, images: np.ndarray, *, scale: float = 1 / 255, device: str = "cpu") -> np.ndarray:
    """Predicted classes int64 [n] of a network in evaluation mode, at ties of logits the smaller one. The given network
    is not changed. Raises InputError for outputs that are not finite."""
    network = keep_channels_last(deepcopy(network)).to(device).eval()
    found = [finite(class_logits(network(x)))[:n].argmax(1).cpu().numpy() for x, n in batches(images, scale, device)]
    return np.concatenate([np.zeros(0, np.int64), *found])


def finite(logits: Tensor) -> Tensor:
    """The logits. Raises InputError where one is NaN or infinite."""
    if not bool(torch.isfinite(logits).all()):
        raise InputError("the network gives outputs that are not finite: its weights are damaged; take another file.")
    return logits


def check_pairs(images: np.ndarray, labels: np.ndarray) -> None:
    """Raises InputError unless there is an image, and one label for each."""
    if len(images) != len(labels) or not len(labels):
        raise InputError(f"there are {len(images)} images and {len(labels)} labels: give one each, and at least 1.")
