"""Training one tile: the members in the slots of a stack, from their initialisation to their last step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mithridate.errors import InputError
from mithridate.models.registry import Builder, initialise
from mithridate.streams import Stream
from mithridate.training import plan
from mithridate.training.augment import augment, count_numbers
from mithridate.training.optimiser import FlatSGD
from mithridate.training.recipe import Recipe
from mithridate.training.stack import Grouped, Single, Stack

BLACK = 0  # row of the resident images that padding and empty slots point to
WARM_UP = 3  # eager steps before a CUDA graph is captured


@dataclass(frozen=True)
class Member:
    """One network to train: a subset's number, a boost seed, and where its images lie among the resident ones."""

    subset: int
    boost: int
    rows: np.ndarray
    """int64 rows of the resident images, in the subset's content order"""
    mean: np.ndarray
    std: np.ndarray

    def stream(self, purpose: str, recipe: Recipe) -> Stream:
        """Keyed by experiment seed, subset and boost seed alone."""
        subset = "all" if recipe.options.one_seed_for_all else self.subset
        return Stream(purpose, recipe.seed, subset, self.boost)


@dataclass(frozen=True)
class Course:
    """What one slot goes through: image rows [steps, B], learning rates [steps], augmentation numbers per step."""

    rows: np.ndarray
    rates: np.ndarray
    numbers: Iterator[np.ndarray]


class TileTrainer:
    """Trains tiles of one recipe, one after another, in the same stack and buffers.

    images uint8 [N,C,H,W] and labels int64 [N] are resident on the device; row BLACK is a black image.
    """

    def __init__(self, recipe: Recipe, build: Builder, images: Tensor, labels: Tensor) -> None:
        self.recipe, self.build = recipe, build
        self.images, self.labels = images, labels
        width, batch, device = recipe.width, recipe.options.batch_size, images.device
        template = initialise(build, recipe.shape, recipe.num_classes, Stream("template"))
        last = recipe.options.channels_last
        stack: Stack = Grouped(template, width, last) if recipe.strategy == "grouped" else Single(template, last)
        self.stack = stack.to(device).train()
        self.optimiser = FlatSGD(self.stack, recipe.options)
        self.rows = torch.full((width, batch), BLACK, device=device)
        self.rates = torch.zeros(width, device=device)
        self.uniform = torch.zeros(width, batch, count_numbers(recipe.options.augmentation), device=device)
        self.mean = torch.zeros(width, 1, recipe.shape[0], 1, 1, device=device)
        self.std = torch.ones_like(self.mean)
        self.losses = torch.zeros(width, device=device)
        self._check_output()
        self._graph = self._capture() if recipe.device == "cuda" and recipe.options.cuda_graphs else None

    def train(
        self, slots: Sequence[Member | None], progress: Callable[[float], None]
    ) -> tuple[list[dict[str, Tensor]], np.ndarray]:
        """States of all slots (one without a member holds a dummy) and each one's last training loss [T].

        progress is told the share that is done.
        """
        courses = [self._enter(slot, member or self._dummy()) for slot, member in enumerate(slots)]
        self.optimiser.reset()
        self.losses.zero_()
        steps = max(len(course.rates) for course in courses)
        cards = [self.images.device] if self.images.is_cuda else []
        with torch.random.fork_rng(cards):  # a layer's own randomness, e.g. dropout's, is the member's own too
            torch.manual_seed((slots[0] or self._dummy()).stream("layers", self.recipe).seed())
            for step in range(steps):
                size = self._lay_out(courses, step)
                if self._graph is not None and size == self.rows.shape[1]:
                    self._graph.replay()
                else:
                    self._step(size)
                progress((step + 1) / steps)
        return [self.stack.state(slot) for slot in range(self.recipe.width)], self.losses.cpu().numpy()

    def _dummy(self) -> Member:
        """Fills a slot that has nothing to train: it sees one black image."""
        channels = self.recipe.shape[0]
        return Member(-1, 0, np.array([BLACK]), np.zeros(channels), np.ones(channels))

    def _enter(self, slot: int, member: Member) -> Course:
        """Put a member's initial weights into its slot and plan all its steps."""
        recipe, options = self.recipe, self.recipe.options
        init = member.stream("init", recipe)
        self.stack.load(slot, initialise(self.build, recipe.shape, recipe.num_classes, init))
        self.mean[slot] = torch.as_tensor(member.mean, dtype=torch.float32).view(1, -1, 1, 1)
        self.std[slot] = torch.as_tensor(member.std, dtype=torch.float32).view(1, -1, 1, 1)
        order = plan.batches(len(member.rows), options, member.stream("batches", recipe))
        rows = np.where(order == plan.PADDING, BLACK, member.rows[order])
        rates = plan.learning_rates(len(member.rows), options)
        stream = member.stream("augment", recipe)
        return Course(rows, rates, plan.numbers(len(rates), options.batch_size, self.uniform.shape[2], stream))

    def _lay_out(self, courses: Sequence[Course], step: int) -> int:
        """Fill the step's input buffers; the batch size to run (smaller than the buffers' only in a loop)."""
        size = self.rows.shape[1]
        rows = np.full(tuple(self.rows.shape), BLACK)
        rates = np.zeros(len(courses), np.float32)
        uniform = np.zeros(tuple(self.uniform.shape), np.float32)
        for slot, course in enumerate(courses):
            if step < len(course.rates):
                rows[slot], rates[slot], uniform[slot] = (
                    course.rows[step],
                    course.rates[step],
                    next(course.numbers),
                )
        self.rows.copy_(torch.from_numpy(rows))
        self.rates.copy_(torch.from_numpy(rates))
        self.uniform.copy_(torch.from_numpy(uniform))
        return size if self.recipe.width > 1 else int((rows[0] != BLACK).sum())

    def _step(self, size: int) -> None:
        """Forward, backward and update of every slot on the first `size` images of its batch."""
        options, width = self.recipe.options, self.recipe.width
        rows = self.rows[:, :size]
        mask = rows != BLACK if self.recipe.masked and width > 1 else None
        images = self._images(rows, self.uniform[:, :size])
        with torch.autocast(images.device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            logits = self.stack(images, mask)
        losses = F.cross_entropy(
            logits.float().flatten(0, 1),
            self.labels[rows].flatten(),
            reduction="none",
            label_smoothing=options.label_smoothing,
        ).view(width, size)
        if mask is None:
            loss, active = losses.mean(1), None
        else:
            loss, active = (losses * mask).sum(1) / mask.sum(1).clamp(min=1), mask.any(1)
        self.optimiser.grad.zero_()
        loss.sum().backward()
        self.optimiser.step(self.rates, active)
        self.losses.copy_(loss.detach() if active is None else torch.where(active, loss.detach(), self.losses))

    def _images(self, rows: Tensor, uniform: Tensor) -> Tensor:
        """Augmented, normalised images [T,B,C,H,W]."""
        options = self.recipe.options
        images = self.images[rows.flatten()].float() * self.recipe.scale
        images = augment(images, uniform.flatten(0, 1), options.augmentation)
        images = ((images.view(*rows.shape, *self.recipe.shape)) - self.mean) / self.std
        if options.channels_last and self.recipe.width == 1:
            return images[0].contiguous(memory_format=torch.channels_last)[None]
        return images

    def _check_output(self) -> None:
        """A broken architecture is an error at once, not one flagged member after another."""
        self._check_batch(self.rows.shape[1])
        if self.recipe.masked and self.recipe.width == 1:
            try:
                self._check_batch(1)  # the last batch of a pass may be one image
            except InputError as error:
                if not isinstance(error.__cause__, ValueError):  # PyTorch's refusal is the subset's affair
                    raise

    def _check_batch(self, size: int) -> None:
        recipe = self.recipe
        try:
            with torch.no_grad():
                logits = self.stack(self._images(self.rows[:, :size], self.uniform[:, :size]), None)
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"model {recipe.model!r} does not take {size} images of shape {recipe.shape}: {error}"
            ) from error
        if logits.shape != (recipe.width, size, recipe.num_classes):
            raise InputError(
                f"model {recipe.model!r} must return logits [batch, {recipe.num_classes}],"
                f" not {list(logits.shape[1:])}."
            )

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Record one step on full batches; its state is overwritten when the first member enters."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._step(self.rows.shape[1])
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step(self.rows.shape[1])
        return graph
