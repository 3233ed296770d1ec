"""BadNets of our own: networks with a backdoor that is known, to try repairs on, each beside a clean twin.

Sources: Gu, Dolan-Gavitt & Garg, "BadNets", 2017: some training images get a trigger and the target's label, and the
network is trained as ever; the pruning-aware attack has a file of its own.

Network n of every planted net, and twin n, have the same initialisation and batches, so that they differ by what the
poisoned images did alone; a pruning-aware net goes on from its twin. Images are stored values uint8 [n,C,H,W], which
the networks are shown in [0, 1].
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from mithridate.data.dataset import draw_val_index
from mithridate.data.poison import draw, resolve_count
from mithridate.data.triggers import Trigger, make_trigger, sunglasses
from mithridate.errors import InputError
from mithridate.options.attacks import AttackOptions
from mithridate.options.badnet import PlantedOptions, PruningAwareOptions
from mithridate.options.badnet_runs import triggers
from mithridate.progress import Progress
from mithridate.repair.pruning_aware import plant_aware
from mithridate.training.one import train_one
from mithridate.training.recipe import Recipe

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
    """A network's parameters by name; positions of the poisoned images, by trigger, among those it was trained on; and
    the channels that serve as decoys, in increasing order of their mean activation (none: not pruning-aware)."""

    tensors: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]
    decoys: np.ndarray


def held_out_rows(n: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted positions int64 of the training images that planted networks are trained on, and of those held out for
    the repair: the nearest whole number to a share of n."""
    held_out = draw_val_index(n, share, seed)
    return np.setdiff1d(np.arange(n), held_out), held_out


def stamps(options: PlantedOptions, shape: tuple[int, int, int]) -> list[Stamp]:
    """The triggers of a planted net for images of `shape` (channels, height, width): square, white, in the lower right
    corner, a seventh of the shorter side (at least 2 pixels); fourpixel, white, at RAB's places; sunglasses, a black
    band."""
    return [Stamp(name, target, planted_trigger(name, shape)) for name, target in triggers(options).items()]


def planted_trigger(name: str, shape: tuple[int, int, int]) -> Trigger:
    """One of the triggers of `stamps`."""
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


def train_twin(
    images: np.ndarray,
    labels: np.ndarray,
    number: int,
    recipe: Recipe,
    *,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> Planted:
    """The clean network `number`, twin of that number of every planted net. Raises InputError where it cannot be
    trained."""
    return _train(PoisonedPart(images, labels, {}), number, recipe, checkpoints, progress)


def plant(
    images: np.ndarray,
    labels: np.ndarray,
    options: PlantedOptions,
    number: int,
    recipe: Recipe,
    *,
    twin: nn.Module | None = None,
    layer: str = "",
    aware: PruningAwareOptions | None = None,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> Planted:
    """BadNet `number` of clean training images with labels int64 [n], of which held-out ones are no part. A
    pruning-aware one is made of its twin, layer and aware, which others do not need.

    Raises InputError for a target that is no class, and where the network cannot be trained.
    """
    for target in options.targets:
        if target >= recipe.num_classes:
            raise InputError(f"{KEY}.targets: there is no class {target}: give numbers up to {recipe.num_classes - 1}.")
    part = poison_part(images, labels, options, scale=recipe.scale, seed=recipe.seed, number=number)
    if not options.pruning_aware:
        return _train(part, number, recipe, checkpoints, progress)
    if twin is None or aware is None:
        raise InputError(f"{KEY}.pruning_aware: such a network grows out of its clean twin: give that.")
    poisoned, name = (part.images, part.labels), f"{options.name}/{number}"
    tensors, decoys = plant_aware(twin, images, poisoned, recipe, layer=layer, options=aware, name=name)
    return Planted(tensors, part.rows, decoys)


def _train(
    part: PoisonedPart, number: int, recipe: Recipe, checkpoints: Path | None, progress: Progress | None
) -> Planted:
    work = {"key": "badnet", "checkpoints": checkpoints, "progress": progress}
    return Planted(train_one(part.images, part.labels, number, recipe, **work), part.rows, NONE)  # type: ignore[arg-type]
