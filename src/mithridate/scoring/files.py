"""The files of the score matrix: one per slice while it is made, then one whole, read block by block."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from mithridate.artefacts import new_hdf5, open_hdf5, read_attributes
from mithridate.certify.aggregation import votes
from mithridate.data.partition import Subsets
from mithridate.errors import InputError
from mithridate.options.attacks import CLEAN
from mithridate.training.flags import FLAGS

if TYPE_CHECKING:
    import pandas as pd

BLOCK_BYTES = 64 << 20
COUNTS = ("changed_argmaxes", "compared", "ties", "not_finite")


def gather_slices(
    paths: Sequence[str | Path],
    labels: np.ndarray,
    subsets: Subsets,
    output: str | Path,
    provenance: dict[str, Any],
    inputs: str = CLEAN,
) -> dict[str, Any]:
    """Join the slices' columns in the order of subset numbers, adding up the scores of a subset's boost seeds; the
    counts of all slices together.

    labels [n] of the test images, subsets the m that the family was trained on, inputs which test images. Raises
    InputError where a subset is missing or stands twice, or a slice is of another test set or made otherwise than the
    first.
    """
    scored, sizes = f"scores/{inputs}", subsets.sizes
    with ExitStack() as stack:
        files = [stack.enter_context(open_hdf5(path, scored, "subset_ids", "flags", "losses")) for path in paths]
        boosts: dict[int, list[h5py.File]] = {}
        for file in files:
            boosts.setdefault(int(file.attrs["boost"]), []).append(file)
        boosts = dict(sorted(boosts.items()))  # sums of three and more depend on the order
        orders = []
        for group in boosts.values():
            ids = np.concatenate([file["subset_ids"][()] for file in group])
            if not np.array_equal(np.sort(ids), np.arange(len(sizes))):
                raise InputError(
                    f"{paths[0]} and its neighbours do not hold each of the {len(sizes)} subsets once:"
                    " delete the slices and run again."
                )
            orders.append(np.argsort(ids))
        attributes = _common_attributes(paths, inputs)
        n, _, classes = files[0][scored].shape
        if any(file[scored].shape[0] != len(labels) for file in files):
            raise InputError(
                f"{paths[0]} and its neighbours are not of this test set of {len(labels)} images:"
                " delete them and run again."
            )
        attributes |= {"inputs": inputs, "k": subsets.k, "d": subsets.d, "seeds": len(boosts)}

        def joined(name: str, rows: slice = slice(None), axis: int = 0) -> Iterator[np.ndarray]:
            for order, group in zip(orders, boosts.values(), strict=True):
                yield np.concatenate([file[name][rows] for file in group], axis=axis).take(order, axis)

        with new_hdf5(output, attributes, provenance) as whole:
            whole["subset_ids"], whole["shifts"] = np.arange(len(sizes)), subsets.shifts
            whole["labels"], whole["sizes"] = labels, sizes
            whole["flags"] = np.max(list(joined("flags")), 0)
            whole["losses"] = np.mean(list(joined("losses")), 0)
            rows = block_rows(len(sizes), classes)
            scores = whole.create_dataset(
                "scores", (n, len(sizes), classes), np.float32, chunks=(min(rows, 64, n), len(sizes), classes),
                compression="gzip", compression_opts=1, shuffle=True,
            )  # fmt: skip
            for start in range(0, n, rows):
                parts = joined(scored, slice(start, start + rows), axis=1)
                scores[start : start + rows] = sum(parts, start=np.float32(0))
        return attributes


def _common_attributes(paths: Sequence[str | Path], inputs: str) -> dict[str, Any]:
    """Counts are added up; what else the slices say must agree."""
    each = [read_attributes(path) for path in paths]
    fixed = [{key: value for key, value in one.items() if key not in ("boost", "counts")} for one in each]
    if any(other != fixed[0] for other in fixed):
        raise InputError(
            f"{paths[0]} and its neighbours were made with different settings: delete the slices and run again."
        )
    counts = [json.loads(one["counts"])[inputs] for one in each]
    return {**fixed[0], **{name: sum(count[name] for count in counts) for name in COUNTS}}


def block_rows(members: int, classes: int) -> int:
    """Test images per block, so that a block stays small for any family."""
    return max(1, BLOCK_BYTES // (4 * members * classes))


@dataclass(frozen=True)
class ScoreFile:
    """An open scores.h5: labels [n], subset_ids, sizes, flags and losses [m], shifts [d], and the matrix in blocks."""

    file: h5py.File
    labels: np.ndarray
    subset_ids: np.ndarray
    shifts: np.ndarray

    def blocks(self) -> Iterator[np.ndarray]:
        """scores float32 [rows, m, classes], in order."""
        scores = self.file["scores"]
        rows = block_rows(*scores.shape[1:])
        for start in range(0, len(scores), rows):
            yield scores[start : start + rows]

    @property
    def classes(self) -> int:
        return int(self.file["scores"].shape[2])

    def votes(self) -> np.ndarray:
        """The class each base classifier votes for, uint16 [n, m]."""
        return np.concatenate([votes(block).astype(np.uint16) for block in self.blocks()])


@contextmanager
def open_scores(path: str | Path) -> Iterator[ScoreFile]:
    with open_hdf5(path, "scores", "labels", "subset_ids", "shifts", "sizes", "flags", "losses") as file:
        yield ScoreFile(file, file["labels"][()], file["subset_ids"][()], file["shifts"][()])


def member_table(scores: ScoreFile, base_accuracy: np.ndarray) -> "pd.DataFrame":
    """One row per base classifier: subset, size, flag, loss (last training batch), base_accuracy."""
    import pandas as pd

    return pd.DataFrame(
        {
            "subset": scores.subset_ids,
            "size": scores.file["sizes"][()],
            "flag": np.array(FLAGS)[scores.file["flags"][()]],
            "loss": scores.file["losses"][()],
            "base_accuracy": base_accuracy,
        }
    )
