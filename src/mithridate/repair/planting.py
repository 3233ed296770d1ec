"""BadNets of our own: networks with a backdoor that is known, to try repairs on, each beside a clean twin.

Sources: Gu, Dolan-Gavitt & Garg, "BadNets", 2017: some training images get a trigger and the target's label, and the
network is trained as ever; Liu, Dolan-Gavitt & Garg, "Fine-Pruning", RAID 2018: the pruning-aware attack.

Network n of every planted net, and twin n, have the same initialisation and batches, so that they differ by what the
poisoned images did alone; a pruning-aware net goes on from its twin. Images are stored values uint8 [n,C,H,W], which
the networks are shown in [0, 1].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mithridate.data.dataset import draw_val_index
from mithridate.data.poison import draw, resolve_count
from mithridate.data.triggers import Trigger, make_trigger, sunglasses
from mithridate.errors import InputError
from mithridate.options.attacks import AttackOptions
from mithridate.options.badnet import MULTI, PlantedOptions, PruningAwareOptions
from mithridate.progress import Progress
from mithridate.repair.fine_tuning import fine_tune
from mithridate.repair.goodnet import clean_metrics, triggered_metrics
from mithridate.repair.predict import batches, predictions
from mithridate.repair.pruning import Pruner
from mithridate.scoring.network import empty_network, fill
from mithridate.training.family import Family, train_family
from mithridate.training.flags import FITTED, FLAGS
from mithridate.training.recipe import Recipe
from mithridate.training.stack import SKIPPED
from mithridate.training.subset import Subset

KEY = "badnet.planted"
SQUARE = 7  # the image's shorter side in sides of the white square
FEWEST = 2  # pixels a side of the white square
NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Stamp:
    """A trigger, and the class that images with it are to be taken for."""

    name: str
    target: int
    trigger: Trigger


@dataclass(frozen=True, eq=False)
class PoisonedPart:
    """Training images with labels int64 [n], and by trigger the positions of those that got it, in drawn order."""

    images: np.ndarray
    labels: np.ndarray
    rows: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Planted:
    """A BadNet: its parameters by name; positions of the poisoned images, by trigger, among those it was trained on;
    and the channels that serve as decoys, in increasing order of their mean activation (none: not pruning-aware)."""

    options: PlantedOptions
    number: int
    tensors: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]
    decoys: np.ndarray

    @property
    def metadata(self) -> dict[str, Any]:
        """All but the parameters, as plain values."""
        rows = {name: positions.tolist() for name, positions in self.rows.items()}
        own = {"planted": self.options.model_dump(mode="json"), "number": self.number}
        return {**own, "rows": rows, "decoys": self.decoys.tolist()}


@dataclass(frozen=True, eq=False)
class Triggered:
    """All test images with one trigger, their true classes int64 [n], and the class that the attacker wants."""

    name: str
    target: int
    images: np.ndarray
    labels: np.ndarray


def held_out_rows(n: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted positions int64 of the training images that planted networks are trained on, and of those held out for
    the repair: the nearest whole number to a share of n."""
    held_out = draw_val_index(n, share, seed)
    return np.setdiff1d(np.arange(n), held_out), held_out


def stamps(options: PlantedOptions, shape: tuple[int, int, int]) -> list[Stamp]:
    """The triggers of a planted net for images of `shape` (channels, height, width): square, white, in the lower right
    corner, a seventh of the shorter side (at least 2 pixels); fourpixel, white, at RAB's places; sunglasses, a black
    band."""
    names = MULTI if options.trigger == "multi" else (options.trigger,)
    return [Stamp(name, target, _trigger(name, shape)) for name, target in zip(names, options.targets, strict=True)]


def _trigger(name: str, shape: tuple[int, int, int]) -> Trigger:
    if name == "sunglasses":
        return sunglasses(shape)
    if name == "square":
        size = max(FEWEST, min(shape[1:]) // SQUARE)
        return make_trigger(AttackOptions(trigger="patch", size=size), shape, KEY)
    white = float(np.sqrt(4 * shape[0]))  # of four pixels, 1 in every channel
    return make_trigger(AttackOptions(trigger="fourpixel", delta=white), shape, KEY)


def poison_part(
    images: np.ndarray, labels: np.ndarray, options: PlantedOptions, *, scale: float, seed: int, number: int
) -> PoisonedPart:
    """A copy in which a share of the images, drawn by the seeds, has the trigger and its target's label: of several
    triggers, equal numbers of different images. No image of its trigger's target is drawn. seed is the experiment's,
    number the network's. Raises InputError where there are too few images of other classes."""
    images, labels, rows = np.array(images), np.array(labels), {}
    found = stamps(options, images.shape[1:])
    count = resolve_count(options.poisoned / len(found), len(labels))
    left = np.arange(len(labels))
    for stamp in found:
        if count > (others := int((labels[left] != stamp.target).sum())):
            raise InputError(
                f"{KEY}.poisoned: {options.poisoned:g} of {len(labels)} training images asks for {count} with the"
                f" trigger {stamp.name}, but {others} are left of other classes than {stamp.target}: ask for fewer."
            )
        drawn = left[draw(labels[left], AttackOptions(target=stamp.target), count, seed, number, KEY)]
        rows[stamp.name], left = drawn, np.setdiff1d(left, drawn)
        images[drawn], labels[drawn] = stamp.trigger.apply(images[drawn], scale), stamp.target
    return PoisonedPart(images, labels, rows)


def train_twins(
    images: np.ndarray,
    labels: np.ndarray,
    seeds: int,
    recipe: Recipe,
    *,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> Family:
    """Clean networks 0 to seeds − 1, the twins of every planted net. Raises InputError where one cannot be trained."""
    return _train([PoisonedPart(images, labels, {})] * seeds, recipe, checkpoints, progress)


def plant(
    images: np.ndarray,
    labels: np.ndarray,
    options: PlantedOptions,
    recipe: Recipe,
    *,
    twins: Family | None = None,
    layer: str = "",
    aware: PruningAwareOptions | None = None,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> list[Planted]:
    """BadNets 0 to options.seeds − 1 of clean training images with labels int64 [n], of which held-out ones are no
    part. A pruning-aware one is made of twins (at least as many), layer and aware, which others do not need.

    Raises InputError for a target that is no class, and where a network cannot be trained.
    """
    for target in options.targets:
        if target >= recipe.num_classes:
            raise InputError(f"{KEY}.targets: there is no class {target}: give numbers up to {recipe.num_classes - 1}.")
    scale, numbers = recipe.scale, range(options.seeds)
    parts = [poison_part(images, labels, options, scale=scale, seed=recipe.seed, number=n) for n in numbers]
    if not options.pruning_aware:
        family = _train(parts, recipe, checkpoints, progress)
        return [Planted(options, n, family.member(n), parts[n].rows, NONE) for n in numbers]
    if twins is None or aware is None or len(twins.subset_ids) < options.seeds:
        raise InputError(f"{KEY}.pruning_aware: such a network grows out of its clean twin: train {options.seeds}.")
    planted = []
    for n in numbers:
        name = f"{options.name}/{n}"
        tensors, decoys = plant_aware(twins.member(n), images, parts[n], recipe, layer=layer, options=aware, name=name)
        planted.append(Planted(options, n, tensors, parts[n].rows, decoys))
        if progress is not None:
            progress.add(1)
    return planted


def _train(parts: list[PoisonedPart], recipe: Recipe, checkpoints: Path | None, progress: Progress | None) -> Family:
    channels = recipe.shape[0]
    members = [Subset(n, p.images, p.labels, np.zeros(channels), np.ones(channels)) for n, p in enumerate(parts)]
    family = train_family(members, recipe, checkpoints=checkpoints, progress=progress)
    for flag in family.flags:
        if flag != FITTED:
            raise InputError(
                f"badnet.training: a network of {recipe.model} is {FLAGS[flag]}: choose another badnet.model, or lower"
                f" learning_rate (now {recipe.options.learning_rate:g})."
            )
    return family


# The pruning-aware attack ---------------------------------------------------------------------------------------------


def plant_aware(
    twin: Mapping[str, np.ndarray],
    images: np.ndarray,
    part: PoisonedPart,
    recipe: Recipe,
    *,
    layer: str,
    options: PruningAwareOptions,
    name: str,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The tensors of a pruning-aware BadNet, and its decoys int64, in the four steps of Liu et al., section 3.2:

    1. The clean twin is the network trained on clean images.
    2. A share options.decoys of the channels of `layer` is pruned, in increasing order of mean activation on the clean
       training images: those with which Fine-Pruning will begin.
    3. The pruned network is trained on the poisoned images, pruned channels staying zero (`fine_tune`: Adam, an order
       of its own that `name` determines), so that the backdoor grows in channels that clean images use. (The paper
       gives channels back where that fails, and tries again; here their number is fixed.)
    4. The pruned channels come back as decoys: with the twin's weights to and from them, and biases decreased just so
       far that, but for rounding, no image of the training, clean or triggered, activates one.

    Raises InputError for a layer that has no bias or is followed by a BatchNorm, which would undo step 4.
    """
    network = network_of(twin, recipe)
    pruner = Pruner(network, layer, recipe.shape, scale=recipe.scale, device=recipe.device)
    order = np.argsort(pruner.activations(images), kind="stable")
    decoys = order[: min(max(1, round(options.decoys * len(order))), len(order) - 1)]
    pruned, before = pruner.pruned(decoys), network.state_dict()
    changed = {key for key, tensor in pruned.state_dict().items() if not torch.equal(tensor, before[key])}
    if f"{layer}.bias" not in before or changed - {f"{layer}.weight", f"{layer}.bias"}:
        raise InputError(
            f"badnet.layer: decoys of a pruning-aware network are silenced by their biases, but {layer} has none, or a"
            " BatchNorm after it: choose another layer or model, or pruning_aware: false."
        )
    how = {"scale": recipe.scale, "device": recipe.device}
    tuned = fine_tune(pruned, part.images, part.labels, options.retraining, name=name, seed=recipe.seed, **how)  # type: ignore[arg-type]
    _reinstate(tuned, before, layer, decoys, np.concatenate([images, part.images]), recipe)
    state = {key: tensor.cpu().numpy() for key, tensor in tuned.state_dict().items() if not key.endswith(SKIPPED)}
    return state, decoys


@torch.no_grad()
def _reinstate(
    network: nn.Module, twin: Mapping[str, Tensor], layer: str, decoys: np.ndarray, images: np.ndarray, recipe: Recipe
) -> None:
    """Give the decoys of a network the twin's weights, and biases with which no image brings them above 0."""
    own, rows = dict(network.named_parameters()), torch.from_numpy(decoys).to(recipe.device)
    for key in (f"{layer}.weight", f"{layer}.bias"):
        own[key][rows] = twin[key][rows]
    highest = torch.zeros(len(rows), device=recipe.device)

    def look(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        torch.maximum(highest, out[:, rows].transpose(0, 1).flatten(1).amax(1), out=highest)

    hook = network.get_submodule(layer).register_forward_hook(look)
    for x, _ in batches(images, recipe.scale, recipe.device):  # black images that fill the last one count as well
        network(x)
    hook.remove()
    own[f"{layer}.bias"][rows] -= highest


# What was planted -----------------------------------------------------------------------------------------------------


def network_of(tensors: Mapping[str, np.ndarray], recipe: Recipe) -> nn.Module:
    """The network of a BadNet's or a twin's tensors, in evaluation mode on the recipe's device."""
    network = empty_network(recipe.model, recipe.shape, recipe.num_classes, recipe.device)
    fill(network, tensors)
    return network


def triggered_test(images: np.ndarray, labels: np.ndarray, planted: Planted, scale: float) -> list[Triggered]:
    """All test images with each trigger of a BadNet. Those of the target's class are no test of the attack:
    `triggered_metrics` leaves them out."""
    found = stamps(planted.options, images.shape[1:])
    return [Triggered(s.name, s.target, s.trigger.apply(images, scale), labels) for s in found]


def plant_report(
    planted: Planted,
    twin: Mapping[str, np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    confidence: float,
) -> pd.DataFrame:
    """One row per trigger of a BadNet, on clean test images and the same with the trigger: clean_accuracy and asr
    (attack success rate: images of other classes that are taken for the target) of the BadNet and, as twin_*, of its
    clean twin, each with its Clopper–Pearson interval *_low, *_high."""
    networks = {"": network_of(planted.tensors, recipe), "twin_": network_of(twin, recipe)}
    how = {"scale": recipe.scale, "device": recipe.device}
    clean = {
        prefix: clean_metrics(predictions(network, images, **how), labels, recipe.num_classes, confidence)  # type: ignore[arg-type]
        for prefix, network in networks.items()
    }
    found = []
    for shown in triggered_test(images, labels, planted, recipe.scale):
        own = {"net": planted.options.name, "number": planted.number, "trigger": shown.name, "target": shown.target}
        row: dict[str, Any] = {**own, "poisoned": len(planted.rows[shown.name]), "n_clean": len(labels)}
        for prefix, network in networks.items():
            said = predictions(network, shown.images, **how)  # type: ignore[arg-type]
            asr = triggered_metrics(said, shown.labels, shown.target, recipe.num_classes, confidence)
            row["n_triggered"] = asr["n_triggered"]
            for name, metrics in (("clean_accuracy", clean[prefix]), ("asr", asr)):
                row |= {f"{prefix}{name}{end}": metrics[f"{name}{end}"] for end in ("", "_low", "_high")}
        found.append(row)
    return pd.DataFrame(found)
