"""File formats of the workflow: HDF5 for arrays, CSV for tables, safetensors for weights.

Everything is written to a temporary neighbour and renamed, so that no file is ever half-written, and contains
no time stamps, so that equal contents give equal arrays, attributes and CSV bytes. What may differ between
equal results (versions, device, commit) is kept apart in the HDF5 group or metadata key `provenance`.
"""

import gzip
import hashlib
import io
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from mithridate.errors import InputError
from mithridate.hdf5_guard import UNREADABLE, check_held, little_memory
from mithridate.hdf5_heaps import check_heaps

if TYPE_CHECKING:  # a quarter of a second that most jobs can do without
    import pandas as pd

PROVENANCE = "provenance"
DEEPEST, MOST_ARRAYS = 10, 10_000  # of an artefact of this workflow


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the block ends well and vanishes when it does not.

    Raises InputError where the file system refuses to write (no space, no permission).
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise InputError(
            f"{path} could not be written ({reason}): free space or mend the permissions, then run again."
        ) from error


@contextmanager
def new_hdf5(path: str | Path, attributes: Mapping[str, Any], provenance: Mapping[str, Any]) -> Iterator[h5py.File]:
    """An HDF5 file to fill; atomic, without time stamps."""
    with atomic(path) as part:
        file = h5py.File(part, "w")
        try:
            _set(file.attrs, attributes)
            _set(file.create_group(PROVENANCE).attrs, provenance)
            yield file
        finally:
            try:
                file.close()
            except RuntimeError as error:  # h5py's word for what could not be flushed
                raise OSError(str(error)) from error


def write_hdf5(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    attributes: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Write whole arrays, contiguous and uncompressed so that they can be memory-mapped."""
    with new_hdf5(path, attributes, provenance) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)


@contextmanager
def open_hdf5(path: str | Path, *names: str) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading and make sure that it holds the data sets `names`.

    Raises InputError for a missing, truncated or foreign file.
    """
    if not Path(path).is_file():
        raise InputError(f"{path} does not exist: check the path, or let the workflow make it.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"{path} is not a whole HDF5 file (truncated or damaged?): delete it and make it again."
        ) from error
    with file:
        try:
            missing = [name for name in names if name not in file]
            if missing:
                raise InputError(f"{path} has no data set {', '.join(missing)}: it is not the artefact expected here.")
            yield file
        except InputError:
            raise
        except UNREADABLE as error:  # damage may show only when a chunk is read
            raise InputError(f"{path} cannot be read to its end (damaged?): delete it and make it again.") from error


def read_hdf5(path: str | Path, *names: str) -> dict[str, np.ndarray]:
    """Read whole data sets."""
    with open_hdf5(path, *names) as file:
        return {name: file[name][()] for name in names}


def read_attributes(path: str | Path) -> dict[str, Any]:
    """The attributes of the file itself (not its provenance)."""
    with open_hdf5(path) as file:
        return _plain(file.attrs)


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Versions, commit, configuration digest and device of an HDF5 artefact."""
    with open_hdf5(path, PROVENANCE) as file:
        return _plain(file[PROVENANCE].attrs)


def _plain(attributes: h5py.AttributeManager) -> dict[str, Any]:
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in attributes.items()}


def memory_map(path: str | Path, name: str) -> np.ndarray:
    """A read-only view of a contiguous data set: rows are read from disk when they are used."""
    with open_hdf5(path, name) as file:
        data = file[name]
        offset, shape, dtype = data.id.get_offset(), data.shape, data.dtype
        if offset is None:  # empty or chunked
            return data[()]
    if os.path.getsize(path) < offset + int(np.prod(shape)) * dtype.itemsize:
        raise InputError(f"{path} is truncated: delete it and make it again.")
    return np.memmap(path, dtype, "r", offset, shape)


def write_csv(path: str | Path, table: "pd.DataFrame") -> None:
    """Write a table; the same rows give the same bytes, gzipped (`.gz`) or not."""
    text = table.to_csv(index=False, lineterminator="\n")
    data = text.encode()
    if str(path).endswith(".gz"):
        buffer = io.BytesIO()
        with gzip.GzipFile("", "wb", 6, buffer, mtime=0) as stream:
            stream.write(data)
        data = buffer.getvalue()
    write_bytes(path, data)


def write_bytes(path: str | Path, data: bytes) -> None:
    with atomic(path) as part:
        part.write_bytes(data)


def write_safetensors(
    path: str | Path,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Write arrays; the metadata is stored as JSON."""
    # One key: safetensors writes several in an order that changes from run to run.
    text = json.dumps({**metadata, PROVENANCE: dict(provenance)})
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    write_bytes(path, save_tensors(arrays, metadata={"mithridate": text}))


def read_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and decoded metadata. Raises InputError for a missing or damaged file."""
    try:
        data = Path(path).read_bytes()
        tensors = load_tensors(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return tensors, json.loads(header.get("__metadata__", {}).get("mithridate", "{}"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: check the path, or let the workflow make it.") from error
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not a whole safetensors file: delete it and make it again.") from error


def digest(path: str | Path) -> str:
    """SHA-256 of what an HDF5 or safetensors artefact holds but for its provenance, so that equal results have equal
    digests. Raises InputError for a missing, damaged or foreign file, in which nothing is trusted."""
    arrays: dict[str, Any] = {}
    if str(path).endswith(".safetensors"):
        arrays, notes = read_safetensors(path)
    else:
        with open_hdf5(path) as file:
            check_heaps(path)
            file.visititems(lambda name, item: _note(path, arrays, name, item))
            with little_memory():
                notes = _plain(file.attrs)
    try:
        found = hashlib.sha256(json.dumps({**notes, PROVENANCE: None}, sort_keys=True).encode())
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            found.update(array.reshape(-1).view(np.uint8).data)
    except (TypeError, ValueError) as error:  # names, values or types that no artefact has
        raise InputError(f"{path} is no artefact of this workflow: delete it and make it again.") from error
    return found.hexdigest()


def _note(path: str | Path, arrays: dict[str, Any], name: str, item: h5py.Dataset | h5py.Group) -> None:
    if name.count("/") > DEEPEST or len(arrays) > MOST_ARRAYS:
        raise InputError(f"{path} is no artefact of this workflow: delete it and make it again.")
    if isinstance(item, h5py.Dataset):
        check_held(path, item)
        arrays[name] = item[()]


def _set(attributes: h5py.AttributeManager, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        attributes[key] = json.dumps(value) if isinstance(value, dict | list | tuple | type(None)) else value
