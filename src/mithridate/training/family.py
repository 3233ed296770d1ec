"""The family trainer: any number of networks of one architecture, each on its own subset, own normalisation and own
random streams.

Training is a total function: an empty subset, one that the network cannot be fitted to and one on which training
diverges all give the constant classifier (all parameters zero, so that it votes class 0), flagged. A defence that
raised, retried or dropped the member would have no certificate.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mithridate.errors import InputError
from mithridate.models.registry import Builder, builder, initialise
from mithridate.progress import Progress
from mithridate.streams import Stream
from mithridate.training.checkpoints import Checkpoints, Trained
from mithridate.training.flags import DIVERGED, EMPTY, FITTED, UNFITTABLE
from mithridate.training.isolation import check_isolation
from mithridate.training.recipe import Recipe
from mithridate.training.stack import Single
from mithridate.training.tile import Member, TileTrainer


@dataclass(frozen=True)
class Subset:
    """What one member is shown: its number, its images uint8 [n,C,H,W] and labels [n] in content order, and the
    channel mean and standard deviation [C] that normalise them."""

    number: int
    images: np.ndarray
    labels: np.ndarray
    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True)
class Family:
    """Trained members: stacked tensors [members, ...] by name, subset numbers, flags and last losses."""

    tensors: dict[str, np.ndarray]
    subset_ids: np.ndarray
    flags: np.ndarray
    losses: np.ndarray

    def member(self, position: int) -> dict[str, np.ndarray]:
        return {name: tensor[position] for name, tensor in self.tensors.items()}


def train_family(
    subsets: Sequence[Subset],
    recipe: Recipe,
    *,
    boost: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> Family:
    """Train one member per subset.

    Each member depends on its own subset, number and boost seed and on the recipe alone (Levine & Feizi 2021, the
    premise of theorem 1), to the last bit: its slot in a tile is its number modulo the tile width.
    checkpoints: the folder of finished members, which are taken from there and not trained again.
    """
    if not subsets:
        raise InputError("a family of no members cannot be trained: give at least one subset.")
    progress = progress or Progress("members trained", len(subsets), write=lambda line: None)
    build = builder(recipe.model)
    store = Checkpoints(checkpoints, recipe)
    keys = [store.key(s.number, boost, s.images, s.labels, s.mean, s.std) for s in subsets]
    done: dict[int, Trained] = {}
    for position, (subset, key) in enumerate(zip(subsets, keys, strict=True)):
        found = store.get(key)
        if found is not None:
            done[position] = found
        elif len(subset.labels) == 0:
            done[position] = Trained(_constant(recipe, build), EMPTY, float("nan"))
    progress.skip(len(done))
    missing = [position for position in range(len(subsets)) if position not in done]
    if missing:
        trainer, members = _prepare(subsets, missing, recipe, build, boost)
        for tile in _tiles(missing, subsets, recipe.width):
            finished = dict(_train_tile(trainer, tile, members, progress.share))
            for position, trained in finished.items():
                store.put(keys[position], trained)
            done.update(finished)
            progress.add(len(finished))
    ordered = [done[position] for position in range(len(subsets))]
    return Family(
        {name: np.stack([t.tensors[name] for t in ordered]) for name in ordered[0].tensors},
        np.array([s.number for s in subsets]),
        np.array([t.flag for t in ordered], np.uint8),
        np.array([t.loss for t in ordered]),
    )


def _constant(recipe: Recipe, build: Builder) -> dict[str, np.ndarray]:
    """The tensors of a constant classifier: all zero."""
    template = initialise(build, recipe.shape, recipe.num_classes, Stream("template"))
    return {name: np.zeros(tensor[0].shape, np.float32) for name, tensor in Single(template, False).member_tensors()}


def _prepare(
    subsets: Sequence[Subset], missing: Sequence[int], recipe: Recipe, build: Builder, boost: int
) -> tuple[TileTrainer, dict[int, Member]]:
    """Put the images of the missing members on the device, behind one black image."""
    images = [np.zeros((1, *recipe.shape), np.uint8)] + [subsets[p].images for p in missing]
    labels = [np.zeros(1, np.int64)] + [subsets[p].labels for p in missing]
    start, members = 1, {}
    for position in missing:
        subset = subsets[position]
        rows = np.arange(start, start + len(subset.labels))
        members[position] = Member(subset.number, boost, rows, subset.mean, subset.std)
        start += len(rows)
    if recipe.strategy == "grouped":
        check_isolation(recipe, build)
    device = torch.device(recipe.device)
    resident = torch.from_numpy(np.concatenate(images)).to(device)
    return TileTrainer(recipe, build, resident, torch.from_numpy(np.concatenate(labels)).to(device)), members


def _tiles(missing: Sequence[int], subsets: Sequence[Subset], width: int) -> Iterator[list[int | None]]:
    """Positions by tile and slot; a subset's tile and slot follow from its number alone."""
    tiles: dict[int, list[int | None]] = {}
    for position in missing:
        tile, slot = divmod(subsets[position].number, width)
        tiles.setdefault(tile, [None] * width)[slot] = position
    yield from tiles.values()


def _train_tile(
    trainer: TileTrainer,
    tile: Sequence[int | None],
    members: dict[int, Member],
    progress: Callable[[float], None],
) -> Iterator[tuple[int, Trained]]:
    slots = [None if position is None else members[position] for position in tile]
    count = sum(slot is not None for slot in slots)
    try:
        states, losses = trainer.train(slots, lambda share: progress(share * count))
    except InputError:
        raise
    except ValueError as error:  # PyTorch's refusal of this subset's batches, e.g. BatchNorm of a single value
        if trainer.recipe.width > 1:
            raise
        print(f"subset cannot be fitted, so its classifier is constant: {error}", file=sys.stderr)
        only = next(p for p in tile if p is not None)
        yield only, Trained(_constant(trainer.recipe, trainer.build), UNFITTABLE, float("nan"))
        return
    for position, state, loss in zip(tile, states, losses, strict=True):
        if position is None:
            continue
        tensors = {name: tensor.numpy() for name, tensor in state.items()}
        if all(np.isfinite(tensor).all() for tensor in tensors.values()):
            yield position, Trained(tensors, FITTED, float(loss))
        else:
            yield position, Trained(_constant(trainer.recipe, trainer.build), DIVERGED, float(loss))


def weight_hash(tensors: dict[str, np.ndarray]) -> str:
    """SHA-256 of a member's parameters and buffers."""
    text = hashlib.sha256()
    for name in sorted(tensors):
        text.update(name.encode() + np.ascontiguousarray(tensors[name]).tobytes())
    return text.hexdigest()
