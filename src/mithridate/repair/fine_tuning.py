"""Training a repaired network a little further on clean held-out images, deterministically.

Sources: Liu et al., RAID 2018 (fine-tuning after pruning, and alone); the weight-range variant is that of student
projects on CSAW-HackML-2020, which stopped it by poisoned test data; here clean images decide.
"""

from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mithridate.options.badnet import FineTuningOptions, WeightRangeOptions
from mithridate.progress import Progress
from mithridate.repair.predict import check_pairs, pixels, predictions
from mithridate.repair.pruning import ROUNDING
from mithridate.streams import Stream
from mithridate.training.plain import Forward, train_plain


def fine_tune(
    network: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    options: FineTuningOptions,
    *,
    name: str,
    seed: int,
    scale: float = 1 / 255,
    device: str = "cpu",
    progress: Progress | None = None,
) -> nn.Module:
    """A copy of the network (images [B,C,H,W] in [0, 1] to logits), trained on images (uint8, taken times `scale`, or
    float32 in [0, 1]) with labels [n]: cross-entropy, Adam, every epoch in an order of its own, which `name` and seed
    determine. In evaluation mode, on the device the given network is on.

    Channels of a convolution or dense layer whose kernel and bias are zero, i.e. which were pruned, stay so, and so do
    those of a BatchNorm. `progress` counts epochs. Raises InputError for labels that are no classes, and where training
    diverges.
    """
    check_pairs(images, labels)
    x = torch.from_numpy(np.array(images)).to(device) if images.dtype == np.uint8 else pixels(images, scale, device)

    def loss(forward: Forward, rows: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(forward(x[rows] * scale if x.dtype == torch.uint8 else x[rows]), y)

    return train_plain(
        network,
        labels,
        loss,
        epochs=options.epochs,
        batch_size=options.batch_size,
        rate=lambda step: options.learning_rate,
        stream=lambda epoch: Stream("fine-tune", seed, name, epoch),
        diverged=f"fine-tuning of {name} diverged: lower the learning rate (now {options.learning_rate:g}).",
        masks=_silent,
        device=device,
        progress=progress,
    )


def prune_weight_range(
    network: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    validation: np.ndarray,
    validation_labels: np.ndarray,
    options: WeightRangeOptions,
    *,
    tau: float,
    name: str,
    seed: int,
    scale: float = 1 / 255,
    device: str = "cpu",
) -> tuple[nn.Module, pd.DataFrame]:
    """The weight-range variant: in each round `zero_small_weights`, then `fine_tune` on images; it ends after
    options.rounds, or with the first network whose accuracy on `validation` has dropped by at least tau percentage
    points.

    Returns the last network and one row per round: round, clean_accuracy; round 0 is the network as it is. `validation`
    should not be among `images`, which a fine-tuned network knows. Otherwise as `fine_tune`.
    """

    def accuracy(network: nn.Module) -> float:
        found = predictions(network, validation, scale=scale, device=device)
        return float((found == validation_labels).mean())

    check_pairs(validation, validation_labels)
    found, how = [accuracy(network)], {"seed": seed, "scale": scale, "device": device}
    for number in range(1, options.rounds + 1):
        small = zero_small_weights(network, options.share)
        network = fine_tune(small, images, labels, options.fine_tuning, name=f"{name}/round {number}", **how)  # type: ignore[arg-type]
        found.append(accuracy(network))
        if 100 * (found[0] - found[-1]) >= tau - ROUNDING:
            break
    return network, pd.DataFrame({"round": np.arange(len(found)), "clean_accuracy": found})


@torch.no_grad()
def zero_small_weights(network: nn.Module, share: float) -> nn.Module:
    """A copy in which, in every convolution, weights below min + share · (max − min) of its kernel are 0: the most
    negative ones. Biases stay."""
    network = deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            low, high = module.weight.min(), module.weight.max()
            module.weight[module.weight < low + share * (high - low)] = 0
    return network


def _silent(module: nn.Module) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Parameters of a module with pruned channels, with 0 at those and 1 elsewhere."""
    if not isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d):
        return
    own = list(module.parameters(recurse=False))
    if own:
        used = torch.stack([(parameter.detach() != 0).reshape(len(parameter), -1).any(1) for parameter in own]).any(0)
        if not bool(used.all()):
            yield from ((parameter, used.float().view(-1, *[1] * (parameter.ndim - 1))) for parameter in own)
