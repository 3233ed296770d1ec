"""The premise of the certificates, checked on the machine at hand: members of a tile do not touch each other."""

from dataclasses import replace

import numpy as np
import torch

from mithridate.errors import InputError
from mithridate.models.registry import Builder
from mithridate.streams import Stream
from mithridate.training.recipe import Recipe
from mithridate.training.subset import Subset
from mithridate.training.tile import TileTrainer

STEPS, IMAGES = 3, 8


def check_isolation(recipe: Recipe, build: Builder, dtype: np.dtype) -> None:
    """Train a tile for a few steps, again with every second member's images replaced, and again with those members
    diverging (0 times infinity is where a kernel that pads with zeros leaks), and compare the other half.

    Raises InputError where one bit differs: grouped kernels on this machine then mix members.
    """
    options = recipe.options.model_copy(update={"steps": STEPS} if recipe.options.steps else {"epochs": STEPS})
    short = replace(recipe, options=options)
    stream = Stream("isolation")
    images = (stream.uniform(2 * recipe.width, IMAGES, *recipe.shape) / recipe.scale).astype(dtype)
    labels = (stream.uniform(2 * recipe.width, IMAGES) * recipe.num_classes).astype(np.int64)
    trainer = TileTrainer(short, build, recipe.width * IMAGES, getattr(torch, str(dtype)))

    def train(odd_block: int, odd_mean: float) -> list[dict[str, torch.Tensor]]:
        std = np.full(recipe.shape[0], 0.3)
        subsets: list[Subset | None] = []
        for slot in range(recipe.width):
            block, mean = (slot + odd_block * recipe.width, odd_mean) if slot % 2 else (slot, 0.5)
            subsets.append(Subset(slot, images[block], labels[block], np.full(recipe.shape[0], mean), std))
        return trainer.train(subsets, lambda share: None)[0]

    before, replaced, diverged = train(0, 0.5), train(1, 0.5), train(1, np.inf)
    for slot in range(0, recipe.width, 2):
        if any(not _equal(s[slot][n], before[slot][n]) for s in (replaced, diverged) for n in before[slot]):
            raise InputError(
                f"training.strategy: grouped in tiles of {recipe.width} mixes members on this machine"
                f" (slot {slot} changed with its neighbours), which would void the certificate:"
                " set training.strategy: loop."
            )


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """A member that diverges by itself (NaN in both) has not been touched by its neighbours."""
    return np.array_equal(one.numpy(), other.numpy(), equal_nan=True)
