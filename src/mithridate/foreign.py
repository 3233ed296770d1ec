"""Scores and votes that were made elsewhere, for `mithridate certify`."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from mithridate import hdf5_guard
from mithridate.certify.buckets import check_shifts
from mithridate.certify.scores_check import check_labels
from mithridate.data.files import read_archive
from mithridate.errors import InputError, brief
from mithridate.training.flags import FLAGS

ROWS = 1024  # test images per block
NAMES = ("scores", "votes", "labels", "subset_ids", "sizes", "flags", "shifts")
MOST_CLASSES = 10_000


@dataclass(frozen=True)
class Foreign:
    """labels [n], subset_ids [m], sizes and flags [m] of the subsets where known, and scores [n, m, classes] in blocks.

    shifts [d]: those by which Finite Aggregation spread m = k·d buckets over as many subsets; None where the file does
    not say, which means disjoint subsets. seeds: members added per subset. classes: how many there are where only votes
    are given, with no scores behind them; else 0.
    """

    labels: np.ndarray
    subset_ids: np.ndarray
    sizes: np.ndarray | None
    flags: np.ndarray | None
    shifts: list[int] | None
    seeds: int
    classes: int
    _scores: np.ndarray | h5py.Dataset

    @property
    def d(self) -> int:
        return len(self.shifts or [0])

    @property
    def only_votes(self) -> bool:
        return self.classes > 0

    def blocks(self) -> Iterator[np.ndarray]:
        """scores [rows, m, classes], in order; a vote counts as score 1."""
        for start in range(0, len(self._scores), ROWS):
            block = self._scores[start : start + ROWS]
            yield (block[:, :, None] == np.arange(self.classes)).astype(np.float32) if self.only_votes else block


@contextmanager
def open_foreign(path: Path) -> Iterator[Foreign]:
    """Open an .h5, an .npz or a PyTorch tensor file.

    .h5 and .npz: `scores` [n,m,classes] or `votes` [n,m], `labels` [n], `subset_ids` [m] unless the columns are in
    order, and `shifts` [d] where subsets overlap (Finite Aggregation). PyTorch files hold {labels, scores}, as the
    papers' own code writes them, and may hold the rest; only tensors are loaded from them.
    Raises InputError for a missing, damaged or incomplete file.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist or is no file: give a file of scores (.h5, .npz, .pth).")
    if path.suffix in (".pth", ".pt"):
        yield _checked(_tensors(path), path)
    elif path.suffix == ".npz":
        yield _checked(read_archive(path, NAMES), path)
    else:
        with hdf5_guard.open_foreign(path) as file, hdf5_guard.damage(path):
            given = _stored(path, file)
            arrays = {name: data if name == "scores" else data[()] for name, data in given.items()}
            if "shifts" not in arrays and _whole(file, "d", path) > 1:
                raise InputError(
                    f"{path} says that its subsets overlap (d = {file.attrs['d']}) but has no shifts: score it again."
                )
            yield _checked(arrays, path, _whole(file, "seeds", path))


def _checked(arrays: dict[str, np.ndarray], path: Path, seeds: int = 1) -> Foreign:
    if "labels" not in arrays or not arrays.keys() & {"scores", "votes"}:
        raise InputError(f"{path} holds {sorted(arrays) or 'nothing known'}: labels and scores (or votes) are needed.")
    only_votes = "scores" not in arrays
    scores, labels = arrays["votes" if only_votes else "scores"], arrays["labels"]
    if only_votes and (scores.ndim != 2 or scores.dtype.kind not in "iu" or scores.size == 0 or scores.min() < 0):
        raise InputError(f"{path}: votes must be class numbers, integers [test images, classifiers].")
    if not only_votes and len(scores.shape) != 3:
        raise InputError(f"{path}: scores has shape {scores.shape}; [test images, classifiers, classes] is needed.")
    if scores.dtype.kind not in "fiu":
        raise InputError(f"{path}: scores are {scores.dtype}: real numbers are needed.")
    if labels.ndim != 1:
        raise InputError(f"{path}: labels has shape {labels.shape}; one class number per test image is needed.")
    k = scores.shape[1]
    for name in ("subset_ids", "shifts"):
        if name in arrays and (arrays[name].ndim != 1 or arrays[name].dtype.kind not in "iu"):
            raise InputError(f"{path}: {name} must be a list of whole numbers; or leave it out.")
    for name in ("sizes", "flags"):
        if name in arrays and (arrays[name].shape != (k,) or arrays[name].dtype.kind not in "iu"):
            raise InputError(f"{path}: {name} must be {k} whole numbers, one per classifier; or leave them out.")
    if "flags" in arrays and not np.isin(arrays["flags"], range(len(FLAGS))).all():
        raise InputError(f"{path}: flags must be 0 to {len(FLAGS) - 1}; or leave them out.")
    shifts = None
    if "shifts" in arrays:
        try:
            shifts = check_shifts(arrays["shifts"], k)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        if k % len(shifts):
            raise InputError(f"{path}: {len(shifts)} shifts need as many classifiers times a whole number, not {k}.")
    classes = 0
    if only_votes:
        check_labels(labels, len(scores), MOST_CLASSES, start_index=0, where=str(path))
        classes = max(int(scores.max()), int(labels.max()), 1) + 1
        if classes > MOST_CLASSES:
            raise InputError(f"{path}: a vote names class {classes - 1}: number classes from 0, without gaps.")
    ids = arrays.get("subset_ids", np.arange(k))
    return Foreign(labels, ids, arrays.get("sizes"), arrays.get("flags"), shifts, seeds, classes, scores)


def _stored(path: Path, file: h5py.File) -> dict[str, h5py.Dataset]:
    """The known data sets, none of which has been read."""
    found = {name: hdf5_guard.member(path, file, name) for name in NAMES}
    given = {name: data for name, data in found.items() if isinstance(data, h5py.Dataset)}
    for data in given.values():
        hdf5_guard.check_stored(path, data, "fui")
    return given


def _whole(file: h5py.File, name: str, path: Path) -> int:
    """An attribute that is a whole number of at least 1, which it is where it does not stand."""
    if name not in file.attrs:
        return 1
    attribute = file.attrs.get_id(name)
    value = file.attrs[name] if attribute.shape == () and attribute.dtype.kind in "iu" else None
    if value is None or value < 1:
        given = "no single number" if value is None else value
        raise InputError(f"{path}: the attribute {name} is {given} instead of a whole number of at least 1: mend it.")
    return int(value)


def _tensors(path: Path) -> dict[str, np.ndarray]:
    import pickle

    import torch

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    raise InputError(
                        f"{path} is compressed, as torch.save never does it: save {{labels, scores}} anew."
                    )
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise InputError(f"{path} holds a {type(content).__name__}: a dictionary of labels and scores is needed.")
        given = {name: content[name].detach() for name in NAMES if isinstance(content.get(name), torch.Tensor)}
        for name, tensor in given.items():
            if tensor.numel() * tensor.element_size() > path.stat().st_size:  # one number stands for many
                raise InputError(f"{path}: {name} claims more values than the file holds: save it again, contiguous.")
        return {name: (v.float() if v.dtype == torch.bfloat16 else v).numpy() for name, v in given.items()}
    except InputError:
        raise
    except Exception as error:  # PyTorch and the tensors in it may fail in any way
        objects = isinstance(error, pickle.UnpicklingError)
        reason = "it is damaged or holds objects, which are never loaded" if objects else brief(error)
        raise InputError(
            f"{path} is not a plain tensor file ({reason}): save {{labels, scores}} with torch.save."
        ) from error
