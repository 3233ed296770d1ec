"""Which images a member sees at which step, at which learning rate: functions of its own size and public options."""

from collections.abc import Iterator

import numpy as np

from mithridate.options.training import TrainingOptions
from mithridate.streams import Stream

PADDING = -1
BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))  # what rounding to float32 must not exceed
BLOCK = 64  # steps whose augmentation numbers are drawn at once


def batches(size: int, options: TrainingOptions, stream: Stream) -> np.ndarray:
    """Positions in the subset for every step: int64 [steps, batch_size], padded with PADDING.

    With `epochs`, each pass is a shuffle whose last batch may be smaller (as a DataLoader draws it); with `steps`,
    shuffles follow one another without a gap, so that every batch is full.
    """
    batch = options.batch_size
    if options.steps is not None:
        passes = -(-options.steps * batch // size)
        return stream.permutations(passes, size).reshape(-1)[: options.steps * batch].reshape(-1, batch)
    assert options.epochs is not None
    order = stream.permutations(options.epochs, size)
    order = np.pad(order, ((0, 0), (0, -size % batch)), constant_values=PADDING)
    return order.reshape(-1, batch)


def learning_rates(size: int, options: TrainingOptions) -> np.ndarray:
    """Learning rate of every step: float64 [steps]."""
    per_epoch = -(-size // options.batch_size)
    steps = options.steps if options.steps is not None else (options.epochs or 0) * per_epoch
    step = np.arange(steps)
    warm = int(options.warmup * steps)
    if options.decay == "step":
        scale = options.decay_factor ** (step[:, None] // per_epoch > np.array(options.decay_epochs)).sum(1)
    elif options.decay == "linear":
        scale = (steps - step) / (steps - warm)
    else:
        scale = np.ones(steps)
    return options.learning_rate * np.where(step < warm, (step + 1) / max(warm, 1), scale)


def numbers(steps: int, batch: int, count: int, stream: Stream) -> Iterator[np.ndarray]:
    """Uniform numbers for the augmentation of each step: float32 [batch, count] in [0, 1), drawn in blocks."""
    for start in range(0, steps, BLOCK):
        drawn = stream.uniform(min(BLOCK, steps - start), batch, count).astype(np.float32)
        yield from np.minimum(drawn, BELOW_ONE)
