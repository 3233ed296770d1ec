"""The files of the score matrix: one per slice while it is made, then one whole, read block by block."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from mithridate.artefacts import new_hdf5, open_hdf5, read_attributes
from mithridate.errors import InputError
from mithridate.training.flags import FLAGS

BLOCK_BYTES = 64 << 20
COUNTS = ("changed_argmaxes", "compared", "ties", "not_finite")


def gather_slices(
    paths: Sequence[str | Path],
    labels: np.ndarray,
    sizes: np.ndarray,
    output: str | Path,
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """Join the slices' columns in the order of subset numbers; the counts of all slices together.

    labels [n] of the test images, sizes [k] of the subsets. Raises InputError where a subset is missing or stands
    twice, or a slice is of another test set or made otherwise than the first.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(open_hdf5(path, "scores", "subset_ids", "flags", "losses")) for path in paths]
        ids = np.concatenate([file["subset_ids"][()] for file in files])
        if not np.array_equal(np.sort(ids), np.arange(len(sizes))):
            raise InputError(
                f"{paths[0]} and its neighbours do not hold each of the {len(sizes)} subsets once:"
                " delete the slices and run again."
            )
        attributes = _common_attributes(paths)
        n, _, classes = files[0]["scores"].shape
        if any(file["scores"].shape[0] != len(labels) for file in files):
            raise InputError(
                f"{paths[0]} and its neighbours are not of this test set of {len(labels)} images:"
                " delete them and run again."
            )
        order = np.argsort(ids)
        with new_hdf5(output, attributes, provenance) as whole:
            whole["subset_ids"] = np.arange(len(sizes))
            whole["labels"], whole["sizes"] = labels, sizes
            for name in ("flags", "losses"):
                whole[name] = np.concatenate([file[name][()] for file in files])[order]
            rows = block_rows(len(sizes), classes)
            scores = whole.create_dataset(
                "scores", (n, len(sizes), classes), np.float32, chunks=(min(rows, 64, n), len(sizes), classes),
                compression="gzip", compression_opts=1, shuffle=True,
            )  # fmt: skip
            for start in range(0, n, rows):
                part = np.concatenate([file["scores"][start : start + rows] for file in files], axis=1)
                scores[start : start + rows] = part[:, order]
        return attributes


def _common_attributes(paths: Sequence[str | Path]) -> dict[str, Any]:
    """Counts are added up; what else the slices say must agree."""
    each = [read_attributes(path) for path in paths]
    fixed = [{key: value for key, value in one.items() if key not in COUNTS} for one in each]
    if any(other != fixed[0] for other in fixed):
        raise InputError(
            f"{paths[0]} and its neighbours were made with different settings: delete the slices and run again."
        )
    return {**fixed[0], **{name: sum(one[name] for one in each) for name in COUNTS}}


def block_rows(k: int, classes: int) -> int:
    """Test images per block, so that a block stays small for any family."""
    return max(1, BLOCK_BYTES // (4 * k * classes))


@dataclass(frozen=True)
class ScoreFile:
    """An open scores.h5: labels [n], subset_ids, sizes, flags and losses [k], and the matrix in blocks."""

    file: h5py.File
    labels: np.ndarray
    subset_ids: np.ndarray

    def blocks(self) -> Iterator[np.ndarray]:
        """scores float32 [rows, k, classes], in order."""
        scores = self.file["scores"]
        rows = block_rows(*scores.shape[1:])
        for start in range(0, len(scores), rows):
            yield scores[start : start + rows]


@contextmanager
def open_scores(path: str | Path) -> Iterator[ScoreFile]:
    with open_hdf5(path, "scores", "labels", "subset_ids", "sizes", "flags", "losses") as file:
        yield ScoreFile(file, file["labels"][()], file["subset_ids"][()])


def member_table(scores: ScoreFile, base_accuracy: np.ndarray) -> pd.DataFrame:
    """One row per base classifier: subset, size, flag, loss (last training batch), base_accuracy."""
    return pd.DataFrame(
        {
            "subset": scores.subset_ids,
            "size": scores.file["sizes"][()],
            "flag": np.array(FLAGS)[scores.file["flags"][()]],
            "loss": scores.file["losses"][()],
            "base_accuracy": base_accuracy,
        }
    )
