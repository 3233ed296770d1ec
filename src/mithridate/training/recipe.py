"""Everything that fixes how a member is trained, besides its subset: options made definite, recorded in artefacts."""

from dataclasses import asdict, dataclass
from typing import Any

from mithridate.options.training import TrainingOptions

# Tile widths of the grouped strategy where it beats the loop, measured by `benchmarks/train.py --strategies` on a CPU
# (docs/performance.md): architectures on images of at most SMALL pixels a side. Everything else runs as a loop.
GROUPED_ON_CPU = {"small_cnn": 5, "mlp": 10}
SMALL = 28
WIDTH = 5  # where grouped is asked for and nothing was measured


@dataclass(frozen=True)
class Recipe:
    """A family's constants. Two members with equal recipes, streams and subsets have equal weights, bit for bit."""

    model: str
    shape: tuple[int, int, int]
    """channels, height, width"""
    num_classes: int
    scale: float
    """pixel value to [0, 1]"""
    seed: int
    """experiment seed"""
    options: TrainingOptions
    strategy: str
    width: int
    device: str
    """kind of device: cpu or cuda"""

    @property
    def masked(self) -> bool:
        """Whether batches may be padded; follows from the options alone."""
        return self.options.epochs is not None

    def describe(self) -> dict[str, Any]:
        """Plain values, for metadata and digests."""
        return {**asdict(self), "shape": list(self.shape), "options": self.options.model_dump(mode="json")}


def resolve(
    options: TrainingOptions,
    *,
    model: str,
    shape: tuple[int, int, int],
    num_classes: int,
    scale: float,
    seed: int,
    device: str,
) -> Recipe:
    """Fill in what the options leave to the measured defaults of the architecture and kind of device."""
    strategy = options.strategy
    if strategy == "auto":
        grouped = device == "cpu" and model in GROUPED_ON_CPU and max(shape[1:]) <= SMALL
        strategy = "grouped" if grouped else "loop"
    width = 1 if strategy == "loop" else options.width or GROUPED_ON_CPU.get(model, WIDTH)
    return Recipe(model, shape, num_classes, scale, seed, options, strategy, width, device)


def most_slices(members: int, options: TrainingOptions) -> int:
    """How many slices a family can be cut into, whatever `auto` will choose once the images' size is known."""
    widest = options.width or max(WIDTH, *GROUPED_ON_CPU.values())
    return -(-members // widest)
