"""Where the undefended target comes from, and the repetitions of everything that follows from it."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from mithridate.errors import InputError
from mithridate.repair.keras_sequential import load_sequential
from mithridate.repair.networks import Kind, build, state
from mithridate.repair.predict import predictions
from mithridate.scoring.network import empty_network
from mithridate.streams import Stream

WEIGHTED = (nn.Linear, nn.Conv2d)
MARGIN = 0.1  # by which a target must beat chance
IMAGES, ROUNDING = 8, 1e-4  # random images, and by what part of the largest logit the same network's may differ


def repeat_seed(seed: int, repeat: int) -> int:
    """The seed of a repetition, of which all its random streams are named: the experiment's own for repetition 0."""
    return seed if repeat == 0 else Stream("dgn repeat", seed, repeat).seed()


def own_target(path: str | Path, kind: Kind) -> nn.Module:
    """The network of a Keras HDF5 file (keras_sequential.load_sequential) as the architecture `kind`, whose robust
    versions are trained. Raises InputError where it is another one."""
    given = load_sequential(path)
    if kind.shape[0] > 1 and isinstance(next(m for m in given.modules() if isinstance(m, WEIGHTED)), nn.Linear):
        raise InputError(
            f"dgn.target.path: {path} begins with a dense layer, whose order of colours is not known: give a network"
            " that begins with a convolution."
        )
    tensors, empty = state(given), state(empty_network(kind.model, kind.shape, kind.num_classes, "cpu"))
    if [array.shape for array in tensors.values()] == [array.shape for array in empty.values()]:
        network = build(kind, dict(zip(empty, tensors.values(), strict=True)))
        if _alike(given, network, kind.shape):
            return network
    raise InputError(
        f"dgn.target.path: {path} has other layers than dgn.target.model, {kind.model}, for images of"
        f" {' x '.join(map(str, kind.shape))} and {kind.num_classes} classes: name the architecture of that file."
    )


@torch.no_grad()
def _alike(given: nn.Module, network: nn.Module, shape: tuple[int, int, int]) -> bool:
    """Whether both give the same logits, as layers without weights, such as activations, might be others."""
    x = torch.from_numpy(Stream("dgn own target").uniform(IMAGES, *shape)).float()
    try:
        expected, found = given(x), network(x)
    except RuntimeError:  # images of this size do not go through
        return False
    return bool((found - expected).abs().max() <= ROUNDING * expected.abs().max())


def check_target(network: nn.Module, images: np.ndarray, labels: np.ndarray, num_classes: int, device: str) -> float:
    """The target's accuracy on training images float32 [n,C,H,W] in [0, 1]. Raises InputError where it is less than 10
    points above chance: against such a network every attack succeeds, and none says anything."""
    accuracy = float((predictions(network, images, scale=1.0, device=device) == labels).mean())
    if accuracy < 1 / num_classes + MARGIN:
        raise InputError(
            f"dgn.target: the target is right on {accuracy:.1%} of its training images, hardly more than by chance"
            f" ({1 / num_classes:.1%}), so that nothing can be generated against it: train it longer, or give another"
            " dgn.target.path."
        )
    return accuracy
