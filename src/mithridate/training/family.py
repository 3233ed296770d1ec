"""The family trainer: any number of networks of one architecture, each on its own subset, own normalisation and own
random streams.

Training is a total function: an empty subset, one that the network cannot be fitted to and one on which training
diverges all give the constant classifier (all parameters zero, so that it votes class 0), flagged. A defence that
raised, retried or dropped the member would have no certificate.
"""

import hashlib
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
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
from mithridate.training.subset import Subset
from mithridate.training.tile import TileTrainer

LANES = {"cpu": 1, "cuda": 4}  # tiles in work at once in one process, which fill each other's gaps (benchmarks/gpu.py)


@dataclass(frozen=True)
class Family:
    """Trained members: stacked tensors [members, ...] by name, subset numbers, flags, last losses, and for each the
    digest uint8 [32] of all that its weights depend on."""

    tensors: dict[str, np.ndarray]
    subset_ids: np.ndarray
    flags: np.ndarray
    losses: np.ndarray
    keys: np.ndarray

    def member(self, position: int) -> dict[str, np.ndarray]:
        return {name: tensor[position] for name, tensor in self.tensors.items()}


def train_family(
    subsets: Sequence[Subset],
    recipe: Recipe,
    *,
    boost: int = 0,
    known: Mapping[str, Trained] | None = None,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> Family:
    """Train one member per subset.

    Each member depends on its own subset, number and boost seed and on the recipe alone (Levine & Feizi 2021, the
    premise of theorem 1), to the last bit: its slot in a tile is its number modulo the tile width.
    known: members of another family by their key (see `members_by_key`), e.g. of the clean variant of a poisoned
    training set; checkpoints: the folder of finished members. What is found there is taken over and not trained again.
    """
    if not subsets:
        raise InputError("a family of no members cannot be trained: give at least one subset.")
    progress = progress or Progress("members trained", len(subsets), write=lambda line: None)
    build = builder(recipe.model)
    store = Checkpoints(checkpoints, recipe)
    keys = [store.key(subset, boost) for subset in subsets]
    done: dict[int, Trained] = {}
    for position, (subset, key) in enumerate(zip(subsets, keys, strict=True)):
        found = (known or {}).get(key) or store.get(key)
        if found is not None:
            done[position] = found
        elif len(subset.labels) == 0:
            done[position] = Trained(_constant(recipe, build), EMPTY, float("nan"))
    progress.skip(len(done))
    tiles = list(_tiles([p for p in range(len(subsets)) if p not in done], subsets, recipe.width))
    if tiles:
        if recipe.strategy == "grouped":
            check_isolation(recipe, build, _dtype(tiles, subsets))
        lanes = min(LANES[recipe.device], len(tiles))
        trainers = [_trainer(tiles, subsets, recipe, build, boost) for _ in range(lanes)]
        for finished in _train_tiles(trainers, tiles, subsets, progress.share):
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
        np.array([list(bytes.fromhex(key)) for key in keys], np.uint8),
    )


def members_by_key(family: Family) -> dict[str, Trained]:
    """What `train_family` takes over where a member's key is the same."""
    return {
        bytes(key).hex(): Trained(family.member(position), int(family.flags[position]), float(family.losses[position]))
        for position, key in enumerate(family.keys)
    }


def _constant(recipe: Recipe, build: Builder) -> dict[str, np.ndarray]:
    """The tensors of a constant classifier: all zero."""
    template = initialise(build, recipe.shape, recipe.num_classes, Stream("template"))
    return {name: np.zeros(tensor[0].shape, np.float32) for name, tensor in Single(template, False).member_tensors()}


def _trainer(
    tiles: Sequence[Sequence[int | None]], subsets: Sequence[Subset], recipe: Recipe, build: Builder, boost: int
) -> TileTrainer:
    """A trainer with room for the largest tile."""
    capacity = max(sum(len(subsets[p].labels) for p in tile if p is not None) for tile in tiles)
    return TileTrainer(recipe, build, capacity, getattr(torch, str(_dtype(tiles, subsets))), boost)


def _dtype(tiles: Sequence[Sequence[int | None]], subsets: Sequence[Subset]) -> np.dtype:
    """The type of the members' images."""
    first = next(p for p in tiles[0] if p is not None)
    return np.asarray(subsets[first].images).dtype


def _tiles(missing: Sequence[int], subsets: Sequence[Subset], width: int) -> Iterator[list[int | None]]:
    """Positions by tile and slot; a subset's tile and slot follow from its number alone."""
    tiles: dict[int, list[int | None]] = {}
    for position in missing:
        tile, slot = divmod(subsets[position].number, width)
        tiles.setdefault(tile, [None] * width)[slot] = position
    yield from tiles.values()


def _train_tiles(
    trainers: Sequence[TileTrainer],
    tiles: Sequence[Sequence[int | None]],
    subsets: Sequence[Subset],
    progress: Callable[[float], None],
) -> Iterator[dict[int, Trained]]:
    """The finished members of one tile after another, by position. The trainers take turns, a step each; progress is
    told how many members are done of those in work."""
    waiting, done = list(tiles)[::-1], dict.fromkeys(trainers, 0.0)
    working: dict[TileTrainer, Generator[float, None, dict[int, Trained]]] = {}
    while waiting or working:
        for trainer in trainers:
            if trainer not in working and waiting:
                working[trainer] = _train_tile(trainer, waiting.pop(), subsets)
            if trainer in working:
                try:
                    done[trainer] = next(working[trainer])
                except StopIteration as end:
                    del working[trainer]
                    done[trainer] = 0.0
                    yield end.value
        progress(sum(done.values()))


def _train_tile(
    trainer: TileTrainer, tile: Sequence[int | None], subsets: Sequence[Subset]
) -> Generator[float, None, dict[int, Trained]]:
    slots = [None if position is None else subsets[position] for position in tile]
    count = sum(slot is not None for slot in slots)
    steps = trainer.steps(slots)
    while True:
        try:
            yield next(steps) * count
        except StopIteration as end:
            states, losses = end.value
            break
        except InputError:
            raise
        except ValueError as error:  # PyTorch's refusal of this subset's batches, e.g. BatchNorm of a single value
            if trainer.recipe.width > 1:
                raise
            print(f"subset cannot be fitted, so its classifier is constant: {error}", file=sys.stderr)
            only = next(p for p in tile if p is not None)
            return {only: Trained(_constant(trainer.recipe, trainer.build), UNFITTABLE, float("nan"))}
    finished = {}
    for position, state, loss in zip(tile, states, losses, strict=True):
        if position is None:
            continue
        tensors = {name: tensor.numpy() for name, tensor in state.items()}
        if all(np.isfinite(tensor).all() for tensor in tensors.values()):
            finished[position] = Trained(tensors, FITTED, float(loss))
        else:
            finished[position] = Trained(_constant(trainer.recipe, trainer.build), DIVERGED, float(loss))
    return finished


def weight_hash(tensors: dict[str, np.ndarray]) -> str:
    """SHA-256 of a member's parameters and buffers."""
    text = hashlib.sha256()
    for name in sorted(tensors):
        text.update(name.encode() + np.ascontiguousarray(tensors[name]).tobytes())
    return text.hexdigest()
