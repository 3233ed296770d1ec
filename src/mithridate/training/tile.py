"""Training one tile: the members in the slots of a stack, from their initialisation to their last step."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mithridate.errors import InputError
from mithridate.models.registry import Builder, class_logits, initialise
from mithridate.streams import Stream
from mithridate.training import plan
from mithridate.training.augment import augment, count_numbers
from mithridate.training.captured import CapturedSteps
from mithridate.training.optimiser import OPTIMISERS
from mithridate.training.procedure import NoisyLoss
from mithridate.training.randomness import Randomness
from mithridate.training.recipe import Recipe
from mithridate.training.stack import Grouped, Single, Stack
from mithridate.training.subset import Subset

BLACK = 0  # row of the resident images that padding and empty slots point to
Trained = tuple[list[dict[str, Tensor]], np.ndarray]


@dataclass(frozen=True)
class Course:
    """What one slot goes through: image rows [steps, B], learning rates [steps], augmentation numbers per step."""

    rows: np.ndarray
    rates: np.ndarray
    numbers: Iterator[np.ndarray]
    epoch: int
    """steps in one pass over the images"""


class TileTrainer:
    """Trains tiles of one recipe, one after another, in the same stack and buffers.

    The images of the tile in work are resident on the device, at most `capacity` of type `dtype` (uint8 or float32),
    behind one black image.
    """

    def __init__(
        self, recipe: Recipe, build: Builder, capacity: int, dtype: torch.dtype = torch.uint8, boost: int = 0
    ) -> None:
        self.recipe, self.build, self.boost = recipe, build, boost
        width, batch, device = recipe.width, recipe.options.batch_size, torch.device(recipe.device)
        self.images = torch.zeros(1 + capacity, *recipe.shape, dtype=dtype, device=device)
        self.labels = torch.zeros(1 + capacity, dtype=torch.int64, device=device)
        template = initialise(build, recipe.shape, recipe.num_classes, Stream("template"))
        last = recipe.options.channels_last
        stack: Stack = Grouped(template, width, last) if recipe.strategy == "grouped" else Single(template, last)
        self.stack = stack.to(device).train()
        self.optimiser = OPTIMISERS[recipe.options.optimiser](self.stack, recipe.options)
        self.rows = torch.full((width, batch), BLACK, device=device)
        self.rates = torch.zeros(width, device=device)
        self.uniform = torch.zeros(width, batch, count_numbers(recipe.options.augmentation), device=device)
        self.mean = torch.zeros(width, 1, recipe.shape[0], 1, 1, device=device)
        self.std = torch.ones_like(self.mean)
        self.losses = torch.zeros(width, device=device)
        self.noisy = None
        if recipe.noising is not None:
            self.noisy = NoisyLoss(recipe.noising, self.stack, batch, recipe.shape, recipe.device)
        self._resting = True
        self._cards = [self.images.device] if recipe.device == "cuda" else []
        self._randomness: Randomness | None = None
        self.stream, self._captured = None, None
        with torch.random.fork_rng(self._cards):
            before = Randomness(self._cards)
            self._check_output()
            draws = not Randomness(self._cards).same(before)
        if self._cards:
            self.stream = torch.cuda.Stream()
            self.stream.wait_stream(torch.cuda.current_stream())
            # Captured steps of one process share the place that a layer's random numbers (dropout's) are counted in, so
            # that tiles in work at once would draw each other's: such networks take every step uncaptured.
            if recipe.options.cuda_graphs and not draws:
                self._captured = CapturedSteps()

    def train(self, slots: Sequence[Subset | None], progress: Callable[[float], None]) -> Trained:
        """States of all slots (one without a subset holds a dummy) and each one's last training loss [T].

        progress is told the share that is done.
        """
        steps = self.steps(slots)
        try:
            while True:
                progress(next(steps))
        except StopIteration as end:
            return end.value

    def steps(self, slots: Sequence[Subset | None]) -> Generator[float, None, Trained]:
        """The same, step by step: what is yielded is the share that is done, and between two steps other trainers may
        take theirs. On a card a step is only launched, so that steps of several trainers run side by side."""
        with self._turn():
            courses, sizes = self._begin(slots)
            laid_out = self._lay_out(courses, len(sizes))
        for step, size in enumerate(sizes):
            with self._turn():
                next(laid_out)
                self._resting = any(step >= len(course.rates) for course in courses)
                if self._captured:
                    self._captured.run(self._step, size)
                else:
                    self._step(size)
            yield (step + 1) / len(sizes)
        with self._turn():
            return [self.stack.state(slot) for slot in range(self.recipe.width)], self.losses.cpu().numpy()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """A stretch of this trainer's work: in its own stream, with its own state of PyTorch's generators."""
        with torch.cuda.stream(self.stream) if self.stream else nullcontext(), torch.random.fork_rng(self._cards):
            if self._randomness is not None:
                self._randomness.restore()
            yield
            self._randomness = Randomness(self._cards)

    def _begin(self, slots: Sequence[Subset | None]) -> tuple[list[Course], list[int]]:
        """The members enter: their plans, and the size of the batch at every step."""
        places = list(self._place(slots))
        courses = [self._plan(number, rows) for _, number, rows in places]
        sizes = self._sizes(courses)
        if self._captured:
            self._resting = True  # some member may have finished; a captured step must not assume otherwise
            self._captured.record(self._step, sizes)
        for slot, number, _ in places:
            self._enter(slot, number)
        self.optimiser.reset()
        self.losses.zero_()
        # A layer's own randomness, e.g. dropout's, is the member's own too.
        torch.manual_seed(self._stream("layers", -1 if slots[0] is None else slots[0].number).seed())
        return courses, sizes

    def _place(self, slots: Sequence[Subset | None]) -> Iterator[tuple[int, int, np.ndarray]]:
        """Bring the slots' images to the device and set how they are normalised: slot, subset's number, rows.

        A slot without a subset trains a dummy on the black image.
        """
        start = BLACK + 1
        for slot, subset in enumerate(slots):
            rows, number = np.array([BLACK]), -1
            self.mean[slot], self.std[slot] = 0, 1
            if subset is not None:
                rows, number = np.arange(start, start + len(subset.labels)), subset.number
                images = np.require(np.asarray(subset.images), requirements=["C", "W"])
                self.images[start : start + len(rows)].copy_(torch.from_numpy(images))
                self.labels[start : start + len(rows)].copy_(torch.tensor(subset.labels, dtype=torch.int64))
                self.mean[slot] = torch.as_tensor(subset.mean, dtype=torch.float32).view(1, -1, 1, 1)
                self.std[slot] = torch.as_tensor(subset.std, dtype=torch.float32).view(1, -1, 1, 1)
                start += len(rows)
            yield slot, number, rows

    def _name(self, number: int) -> tuple[int, str | int, int]:
        """What a member's streams are keyed by: experiment seed, subset and boost seed alone."""
        return self.recipe.seed, "all" if self.recipe.options.one_seed_for_all else number, self.boost

    def _stream(self, purpose: str, number: int) -> Stream:
        return Stream(purpose, *self._name(number))

    def _enter(self, slot: int, number: int) -> None:
        """Put a member's initial weights into its slot."""
        recipe = self.recipe
        init = self._stream("init", number)
        self.stack.load(slot, initialise(self.build, recipe.shape, recipe.num_classes, init))
        if self.noisy is not None:
            self.noisy.enter(slot, "victim", *self._name(number))

    def _plan(self, number: int, own: np.ndarray) -> Course:
        """All steps of a member; `own` are its images' rows."""
        options = self.recipe.options
        order = plan.batches(len(own), options, self._stream("batches", number))
        rows = np.where(order == plan.PADDING, BLACK, own[order])
        rates = plan.learning_rates(len(own), options)
        numbers = plan.numbers(len(rates), options.batch_size, self.uniform.shape[2], self._stream("augment", number))
        return Course(rows, rates, numbers, -(-len(own) // options.batch_size))

    def _sizes(self, courses: Sequence[Course]) -> list[int]:
        """The batch size to run at each step (smaller than the buffers' only in a loop)."""
        if self.recipe.width > 1:
            return [self.rows.shape[1]] * max(len(course.rates) for course in courses)
        return (courses[0].rows != BLACK).sum(1).tolist()

    def _lay_out(self, courses: Sequence[Course], steps: int) -> Iterator[None]:
        """Fill the input buffers of one step after another. A block of steps goes to the device at once, since a card
        would wait for every single one."""
        for start in range(0, steps, plan.BLOCK):
            block = range(start, min(start + plan.BLOCK, steps))
            rows = np.full((len(block), *self.rows.shape), BLACK)
            rates = np.zeros((len(block), len(courses)), np.float32)
            uniform = np.zeros((len(block), *self.uniform.shape), np.float32)
            for slot, course in enumerate(courses):
                own = slice(start, min(block.stop, len(course.rates)))
                for position in range(own.stop - own.start):
                    uniform[position, slot] = next(course.numbers)
                rows[: max(own.stop - start, 0), slot] = course.rows[own]
                rates[: max(own.stop - start, 0), slot] = course.rates[own]
            on_device = [torch.from_numpy(array).to(self.rows.device) for array in (rows, rates, uniform)]
            for position, step in enumerate(block):
                for buffer, values in zip((self.rows, self.rates, self.uniform), on_device, strict=True):
                    buffer.copy_(values[position])
                if self.noisy is not None:
                    for slot, course in enumerate(courses):
                        if step < len(course.rates):
                            self.noisy.lay_out(slot, step // course.epoch)
                yield

    def _step(self, size: int) -> None:
        """Forward, backward and update of every slot on the first `size` images of its batch."""
        width = self.recipe.width
        rows = self.rows[:, :size]
        mask = rows != BLACK if self.recipe.masked and width > 1 else None
        images = self._images(rows, self.uniform[:, :size])
        losses = self._losses(images, self.labels[rows], mask)
        if mask is None:
            loss, active = losses.mean(1), None
        else:
            loss = (losses * mask).sum(1) / mask.sum(1).clamp(min=1)
            active = mask.any(1) if self._resting else None
        self.optimiser.differentiate(loss.sum())
        self.optimiser.step(self.rates, active)
        self.losses.copy_(loss.detach() if active is None else torch.where(active, loss.detach(), self.losses))

    def _losses(self, images: Tensor, labels: Tensor, mask: Tensor | None) -> Tensor:
        """[T,B]"""
        options = self.recipe.options
        bf16 = options.precision == "bf16"
        if self.noisy is not None:
            return self.noisy(images, labels, mask, bf16)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            logits = self.stack(images, mask)
        return F.cross_entropy(
            class_logits(logits.float()).flatten(0, 1),
            labels.flatten(),
            reduction="none",
            label_smoothing=options.label_smoothing,
        ).view(labels.shape)

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
                logits = class_logits(self.stack(self._images(self.rows[:, :size], self.uniform[:, :size]), None))
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"model {recipe.model!r} does not take {size} images of shape {recipe.shape}: {error}"
            ) from error
        if logits.shape != (recipe.width, size, recipe.num_classes):
            raise InputError(
                f"model {recipe.model!r} must return logits [batch, {recipe.num_classes}],"
                f" not {list(logits.shape[1:])}."
            )
