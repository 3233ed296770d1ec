"""Training one network by Adam on batches in named orders: the loop of those who bring a loss of their own."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from mithridate.data.checks import check_labels
from mithridate.errors import InputError
from mithridate.models.registry import class_logits
from mithridate.options.training import TrainingOptions
from mithridate.progress import Progress
from mithridate.streams import Stream
from mithridate.training.optimiser import FlatAdam
from mithridate.training.snapshot import Snapshot
from mithridate.training.stack import Single

Forward = Callable[[Tensor], Tensor]
"""Images [B,C,H,W] to logits [B,classes]."""
Loss = Callable[[Forward, Tensor, Tensor], Tensor]
"""The loss [] of the network, of a batch's rows and of their labels, both int64 [B]."""
Masks = Callable[[nn.Module], Iterable[tuple[nn.Parameter, Tensor]]]
"""Parameters of a module that only change where a tensor of their shape is 1, not 0."""


def train_plain(
    network: nn.Module,
    labels: np.ndarray,
    loss: Loss,
    *,
    epochs: int,
    batch_size: int,
    rate: Callable[[int], float],
    stream: Callable[[int], Stream],
    diverged: str,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    masks: Masks = lambda module: (),
    device: str = "cpu",
    progress: Progress | None = None,
    snapshot: Snapshot | None = None,
) -> nn.Module:
    """A trained copy of a network, in evaluation mode and on the device the given one is on.

    Every epoch goes over the rows of labels [n] in an order of its own: stream(epoch) gives it, and the seed of the
    generator that dropout draws from. rate is the learning rate of a 0-based step, momentum Adam's β₁, weight_decay an
    L2 penalty. `progress` counts epochs, of which those in the snapshot are not run again. Raises InputError for labels
    that are no classes, and, with the sentence `diverged`, where a parameter is no longer finite.
    """
    stack = Single(deepcopy(network).to(device).train(), channels_last=True)
    kept = [(parameter, mask) for module in stack.modules() for parameter, mask in masks(module)]
    adam = FlatAdam(stack, TrainingOptions(optimiser="adam", momentum=momentum, weight_decay=weight_decay))
    y, snapshot = torch.from_numpy(np.asarray(labels, np.int64)).to(device), snapshot or Snapshot()
    state = {**adam.tensors(), **dict(stack.named_buffers())}
    step, begun = 0, 0
    if saved := snapshot.load(state):
        step, begun = saved["step"], saved["epoch"]
    if progress is not None:
        progress.skip(begun)

    def forward(images: Tensor) -> Tensor:
        logits = class_logits(stack(images[None])[0])
        if step == 0:
            check_labels("labels", labels, logits.shape[1])
        return logits

    for epoch in range(begun, epochs):
        numbers = stream(epoch)
        order = torch.from_numpy(numbers.permutations(1, len(y))[0]).to(device)
        with seeded(numbers.seed(), device):
            for rows in order.split(batch_size):
                value = loss(forward, rows, y[rows])
                adam.grad.zero_()
                value.backward()
                for parameter, mask in kept:
                    parameter.grad.mul_(mask)  # type: ignore[union-attr]
                adam.step(torch.full((1,), rate(step), device=device), None)
                step += 1
        if not bool(torch.isfinite(adam.theta).all()):
            raise InputError(diverged)
        if snapshot.due():
            snapshot.save(state, epoch=epoch + 1, step=step)
        if progress is not None:
            progress.add(1)
    trained = deepcopy(network)
    trained.load_state_dict(stack.member.state_dict())
    return trained.eval()


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """PyTorch's own generator, which dropout draws from, starts at the seed and is put back afterwards."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device != "cpu" else []):
        torch.default_generator.manual_seed(seed)
        if device != "cpu":
            torch.cuda.manual_seed(seed)
        yield
