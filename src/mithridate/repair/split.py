"""Which clean held-out images serve which purpose of a repair.

fine_tuning ranks the channels, says where pruning stops and fine-tunes; overlays are laid over inputs by STRIP, and
judge what fine-tuning has changed; calibration sets STRIP's boundary and nothing else, so that it is as new to STRIP as
any clean input will be.
"""

from dataclasses import dataclass

import numpy as np

from mithridate.errors import InputError
from mithridate.options.badnet import SplitOptions
from mithridate.streams import Stream


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint sorted indices, int64."""

    fine_tuning: np.ndarray
    overlays: np.ndarray
    calibration: np.ndarray


def split_held_out(indices: np.ndarray, options: SplitOptions, seed: int) -> Split:
    """The clean held-out indices [n] in three parts of the relative sizes asked for, drawn from the seed; their order
    does not matter. Raises InputError for an index that stands twice, and where a part would be empty."""
    held_out = np.unique(np.asarray(indices, np.int64))
    if len(held_out) != len(indices):
        raise InputError(f"{len(indices)} held-out images hold {len(held_out)} different ones: name each once.")
    shares = np.array([options.fine_tuning, options.overlays, options.calibration])
    ends = np.floor(shares.cumsum() / shares.sum() * len(held_out) + 0.5).astype(np.int64)
    order = held_out[Stream("badnet split", seed).permutations(1, len(held_out))[0]]
    parts = [np.sort(part) for part in np.split(order, ends[:2])]
    if not all(map(len, parts)):
        raise InputError(
            f"{len(held_out)} clean held-out images in parts of {', '.join(str(len(part)) for part in parts)} leave one"
            " empty: hold out more images, or change badnet.split."
        )
    return Split(*parts)
