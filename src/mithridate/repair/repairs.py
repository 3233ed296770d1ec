"""All repairs of one network, from clean held-out images alone."""

import time
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from torch import nn

from mithridate.errors import InputError
from mithridate.options.badnet import BadnetOptions
from mithridate.progress import Progress
from mithridate.repair.fine_tuning import fine_tune, prune_weight_range
from mithridate.repair.predict import predictions
from mithridate.repair.pruning import Pruner, pruned_channels
from mithridate.repair.split import Split

MARGIN = 0.1  # by which a network must beat chance to be worth a repair
PRUNE, FINE_TUNE, FINE_PRUNE, WEIGHT_RANGE = "prune", "fine-tune", "fine-prune", "weight-range"


@dataclass(frozen=True, eq=False)
class Repairs:
    """Networks by repair; the curve of pruning (see Pruner.curve, or prune_weight_range); seconds of work by repair."""

    networks: dict[str, nn.Module]
    curve: pd.DataFrame
    seconds: dict[str, float] = field(default_factory=dict)


def repair_names(options: BadnetOptions) -> list[str]:
    """The repairs that `repair` makes; the last one's network is the one that is delivered."""
    return [PRUNE, FINE_TUNE, FINE_PRUNE] if options.pruning == "channels" else [FINE_TUNE, WEIGHT_RANGE]


def held_out_accuracy(
    network: nn.Module, images: np.ndarray, labels: np.ndarray, num_classes: int, path: str, device: str
) -> float:
    """The suspicious network's accuracy on clean held-out images float32 [n,C,H,W] in [0, 1] of the file `path`. Raises
    InputError where it is less than 10 points above chance: then something else is wrong than a backdoor."""
    accuracy = float((predictions(network, images, scale=1.0, device=device) == labels).mean())
    if accuracy < 1 / num_classes + MARGIN:
        raise InputError(
            f"{path}: the suspicious network is right on {accuracy:.1%} of these clean images, hardly more than by"
            " chance: give the images and labels that it was made for, and its badnet.nets.scale (1 or 255); one that"
            " the workflow plants needs more badnet.training."
        )
    return accuracy


def repair(
    network: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    split: Split,
    options: BadnetOptions,
    *,
    name: str,
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Repairs:
    """Every repair that the options ask for, by images float32 [n,C,H,W] in [0, 1] with labels int64 [n].

    channels: pruning up to the network that has lost tau points of accuracy on the fine-tuning part; fine-tuning on
    that part, alone and after pruning. weight_range: that variant, judged on the overlay part. Random orders follow
    from `name` and seed; `progress` counts repairs. Raises InputError where tau is never lost, or training diverges.
    """
    own = images[split.fine_tuning], labels[split.fine_tuning]
    how = {"seed": seed, "device": device}
    repairs = Repairs({}, pd.DataFrame())

    def timed(repair: str, start: float, made: nn.Module) -> nn.Module:
        repairs.networks[repair], repairs.seconds[repair] = made, time.perf_counter() - start
        if progress is not None:
            progress.add(1)
        return made

    def tuned(repair: str, start: float, before: nn.Module) -> None:
        made = fine_tune(before, *own, options.fine_tuning, name=f"{name}/{repair}", **how)  # type: ignore[arg-type]
        timed(repair, start, made)

    start = time.perf_counter()
    if options.pruning == "channels":
        pruner = Pruner(network, options.layer, images.shape[1:], device=device)
        curve = pruner.curve(own[0], *own)
        pruned = timed(PRUNE, start, pruner.pruned(pruned_channels(curve, options.tau)))
        tuned(FINE_PRUNE, start, pruned)
    else:
        judge = images[split.overlays], labels[split.overlays]
        known = {"tau": options.tau, "name": f"{name}/{WEIGHT_RANGE}", **how}
        made, curve = prune_weight_range(network, *own, *judge, options.weight_range, **known)  # type: ignore[arg-type]
        timed(WEIGHT_RANGE, start, made)
    tuned(FINE_TUNE, time.perf_counter(), network)
    ordered = {repair: repairs.networks[repair] for repair in repair_names(options)}
    return Repairs(ordered, curve, repairs.seconds)
