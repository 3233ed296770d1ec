"""Data generating networks (DGNs): one autoencoder per class, which turns its images into adversarial ones.

Source: "Improving Robustness of Deep Learning Systems with Fast and Customizable Adversarial Data Generation"
(DeepCustom). Each network sees the training images of its class alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mithridate.artefacts import read_safetensors, write_safetensors
from mithridate.errors import InputError
from mithridate.models import generator
from mithridate.models.registry import initialise
from mithridate.options.dgn import GeneratorOptions
from mithridate.options.training import TrainingOptions
from mithridate.progress import Progress
from mithridate.scoring.network import fill
from mithridate.streams import Stream
from mithridate.training.optimiser import FlatAdam
from mithridate.training.snapshot import Snapshot
from mithridate.training.stack import Grouped, Single, Stack

BATCH = 100  # images per forward pass when images are generated
NOTED = 20  # steps whose losses are kept

Loss = Callable[[Tensor, Tensor], Tensor]
"""Losses [G] of generators for originals and generated images [G,B,C,H,W]."""


@dataclass(frozen=True, eq=False)
class Generators:
    """Tensors [classes, ...] by name of one network per class, and the history of their losses: class, step, loss."""

    tensors: dict[str, np.ndarray]
    history: pd.DataFrame


def train_generators(
    images: np.ndarray,
    labels: np.ndarray,
    loss_of: Callable[[Tensor], Loss],
    options: GeneratorOptions,
    *,
    name: str,
    seed: int,
    num_classes: int,
    together: bool,
    device: str = "cpu",
    progress: Progress | None = None,
    snapshot: Snapshot | None = None,
) -> Generators:
    """One generator per class, of images float32 [n,C,H,W] in [0, 1] with labels int64 [n].

    loss_of makes the loss of the generators of classes int64 [G]. All take the same number of steps of full batches,
    ⌈num_epochs · images of the largest class / batch_size⌉, drawn from one reshuffled pass after another. Every
    generator's initialisation and order follow from seed, `name` and its class. together: all side by side in one
    stack, or one after another, which is the same but for rounding. `progress` counts steps of generators, of which
    those in the snapshot are not made again.

    Raises InputError for a class without images, and where training diverges.
    """
    rows = [np.flatnonzero(labels == c) for c in range(num_classes)]
    for c, own in enumerate(rows):
        if not len(own):
            raise InputError(f"class {c} has no training images to train a generator on: give some, or drop the class.")
    steps = step_count(labels, num_classes, options)
    pixels = torch.from_numpy(images).to(device)
    parts, histories = [], []
    for classes in [list(range(num_classes))] if together else [[c] for c in range(num_classes)]:
        stack = _stack(images.shape[1:], classes, seed, name, device)
        count = steps * options.batch_size
        order = torch.stack([_order(rows[c], count, Stream("dgn order", seed, name, c)) for c in classes]).to(device)
        loss = loss_of(torch.tensor(classes, device=device))
        part = (snapshot or Snapshot()).part(classes[0])
        history = _train(stack, pixels, order, loss, options, progress, part)
        histories.append(history.assign(**{"class": np.resize(classes, len(history))}))
        parts += [stack.state(slot) for slot in range(len(classes))]
        if not all(bool(torch.isfinite(tensor).all()) for part in parts for tensor in part.values()):
            raise InputError(
                f"dgn.generators: training of {name} diverged: lower its learning_rate (now {options.learning_rate:g})."
            )
    tensors = {key: np.stack([part[key].numpy() for part in parts]) for key in parts[0]}
    history = pd.concat(histories).sort_values(["class", "step"], kind="stable", ignore_index=True)
    return Generators(tensors, history[["class", "step", "loss"]])


def step_count(labels: np.ndarray, num_classes: int, options: GeneratorOptions) -> int:
    """Steps of every generator."""
    return -(-options.num_epochs * int(np.bincount(labels, minlength=num_classes).max()) // options.batch_size)


@torch.no_grad()
def generate(
    generators: Generators,
    images: np.ndarray,
    classes: np.ndarray,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> np.ndarray:
    """What the generators of `classes` [n] make of images float32 [n,C,H,W] in [0, 1]: the same, not clipped to any
    ball. Batches are of one shape, the last filled up. Raises InputError for generators of other images."""
    channels, height, width = images.shape[1:]
    network, made = generator.build(channels, height, width).to(device).eval(), np.empty_like(images)
    for c in np.unique(classes):
        fill(network, {key: tensor[c] for key, tensor in generators.tensors.items()})
        own = np.flatnonzero(classes == c)
        for start in range(0, len(own), BATCH):
            rows = own[start : start + BATCH]
            x = torch.zeros(BATCH, *images.shape[1:])
            x[: len(rows)] = torch.from_numpy(images[rows])
            made[rows] = network(x.to(device))[: len(rows)].cpu().numpy()
            if progress is not None:
                progress.add(len(rows))
    return made


def save_generators(path: str | Path, generators: Generators, provenance: Mapping[str, Any]) -> None:
    """Write the networks; their history has a table of its own."""
    write_safetensors(path, generators.tensors, {"generators": True}, provenance)


def load_generators(path: str | Path) -> Generators:
    """The networks of a file, without history. Raises InputError for a damaged or foreign one."""
    tensors, metadata = read_safetensors(path)
    if "generators" not in metadata:
        raise InputError(f"{path} holds no generators: delete it and make it again.")
    return Generators(tensors, pd.DataFrame())


def _stack(shape: tuple[int, ...], classes: Sequence[int], seed: int, name: str, device: str) -> Stack:
    channels, height, width = shape
    made: list[nn.Module] = [
        initialise(generator.build, (channels, height, width), 0, Stream("dgn init", seed, name, c)) for c in classes
    ]
    if len(made) == 1:
        return Single(made[0], channels_last=True).to(device).train()
    stack = Grouped(made[0], len(made), channels_last=True)
    for slot, network in enumerate(made):
        stack.load(slot, network)
    return stack.to(device).train()


def _order(rows: np.ndarray, count: int, stream: Stream) -> Tensor:
    """`count` of the rows, one reshuffled pass after another."""
    passes = stream.permutations(-(-count // len(rows)), len(rows)).reshape(-1)[:count]
    return torch.from_numpy(rows[passes])


def _train(
    stack: Stack,
    pixels: Tensor,
    order: Tensor,
    loss: Loss,
    options: GeneratorOptions,
    progress: Progress | None,
    snapshot: Snapshot,
) -> pd.DataFrame:
    """step and loss, one row per member of the stack and noted step."""
    how = TrainingOptions(optimiser="adam", momentum=options.momentum, weight_decay=options.weight_decay)
    adam, steps = FlatAdam(stack, how), order.split(options.batch_size, 1)
    state, every = {**adam.tensors(), **dict(stack.named_buffers())}, max(1, len(steps) // NOTED)
    saved = snapshot.load(state) or {"steps": 0, "noted": []}
    begun, noted = saved["steps"], saved["noted"]
    if progress is not None:
        progress.skip(begun * stack.width)
    for step, rows in enumerate(steps[begun:], begun):
        x = pixels[rows]
        losses = loss(x, stack(x))
        adam.grad.zero_()
        losses.sum().backward()
        rate = options.learning_rate * options.decay_rate ** (step // options.decay_step)
        adam.step(torch.full((stack.width,), rate, device=pixels.device), None)
        if step % every == 0 or step == len(steps) - 1:
            noted.append({"step": step, "loss": losses.tolist()})
        if snapshot.due() or step == len(steps) - 1:
            snapshot.save(state, steps=step + 1, noted=noted)
        if progress is not None:
            progress.add(stack.width)
    return pd.concat(map(pd.DataFrame, noted), ignore_index=True).astype({"loss": np.float32})
