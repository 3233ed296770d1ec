"""Everything that fixes how a member is trained, besides its subset: options made definite, recorded in artefacts."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mithridate.options.training import TrainingOptions

if TYPE_CHECKING:  # which takes PyTorch along, and the workflow asks here how many slices there are
    from mithridate.training.procedure import Noising

# Tile widths of the grouped strategy where it beats the loop, measured by `benchmarks/train.py --strategies` on a CPU
# (docs/performance.md): architectures on images of at most SMALL pixels a side. Everything else runs as a loop.
GROUPED_ON_CPU = {"small_cnn": 10, "mlp": 10, "rab_mlp": 50}
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
    noising: "Noising | None" = None
    """the procedure of a victim of randomized smoothing; None: cross-entropy, without noise"""

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
    noising: "Noising | None" = None,
) -> Recipe:
    """Fill in what the options leave to the measured defaults of the architecture and kind of device."""
    strategy = options.strategy
    if strategy == "auto":
        strategy = "grouped" if _may_group(options, model, device) and max(shape[1:]) <= SMALL else "loop"
    width = _width(options, model) if strategy == "grouped" else 1
    return Recipe(model, shape, num_classes, scale, seed, options, strategy, width, device, noising)


def most_slices(members: int, options: TrainingOptions, *, model: str, device: str) -> int:
    """How many slices of whole tiles a family can be cut into, as far as is known before the images' size is."""
    return -(-members // (_width(options, model) if _may_group(options, model, device) else 1))


def _may_group(options: TrainingOptions, model: str, device: str) -> bool:
    measured = device == "cpu" and model in GROUPED_ON_CPU
    return options.strategy == "grouped" or (options.strategy == "auto" and measured)


def _width(options: TrainingOptions, model: str) -> int:
    return options.width or GROUPED_ON_CPU.get(model, WIDTH)
