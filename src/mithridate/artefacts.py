"""File formats of the workflow: HDF5 for arrays, CSV for tables, safetensors for weights.

Everything is written whole or not at all (`mithridate.atomic`) and contains no time stamps, so that equal contents give
equal arrays, attributes and CSV bytes. What may differ between equal results (versions, device, commit) is kept apart
in the HDF5 group or metadata key `provenance`. What is read is checked against its checksum (`mithridate.checksums`).
"""

import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from mithridate import checksums
from mithridate.atomic import atomic, write_bytes
from mithridate.errors import InputError
from mithridate.hdf5_guard import UNREADABLE

if TYPE_CHECKING:  # a quarter of a second that most jobs can do without
    import pandas as pd

PROVENANCE = "provenance"


class _Unfailing(io.FileIO):
    """A new file that keeps the first error in writing it for later: the HDF5 library crashes on a full disk."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            rest = memoryview(data).cast("B")
            while rest and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size) if self.error is None else 0
        except OSError as error:
            self.error = error
            return 0


@contextmanager
def new_hdf5(path: str | Path, attributes: Mapping[str, Any], provenance: Mapping[str, Any]) -> Iterator[h5py.File]:
    """An HDF5 file to fill; atomic, without time stamps."""
    with atomic(path) as part:
        with _Unfailing(part, "w+") as raw:
            with h5py.File(raw, "w", userblock_size=checksums.BLOCK) as file:
                _set(file.attrs, attributes)
                _set(file.create_group(PROVENANCE).attrs, provenance)
                yield file
            if raw.error is not None:
                raise raw.error
        checksums.seal_hdf5(part)


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
        checksums.check_hdf5(path)
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"{path} is not a whole HDF5 file (truncated or damaged?): delete it and make it again."
        ) from error
    with file:
        try:
            missing = [name for name in names if name not in file]
            if missing:
                raise InputError(
                    f"{path} has no data set {', '.join(missing)}, so it is not the artefact expected here: delete it"
                    " and make it again."
                )
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
        return plain(file.attrs)


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Versions, commit, configuration digest and device of an HDF5 or safetensors artefact, of which only the header is
    read."""
    if str(path).endswith(".safetensors"):
        return dict(read_notes(path).get(PROVENANCE, {}))
    with open_hdf5(path, PROVENANCE) as file:
        return plain(file[PROVENANCE].attrs)


def plain(attributes: h5py.AttributeManager) -> dict[str, Any]:
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


def write_csv(path: str | Path, table: "pd.DataFrame", *, checksum: bool = True) -> None:
    """Write a table; the same rows give the same bytes, gzipped (`.gz`) or not. Its checksum goes beside it."""
    text = table.to_csv(index=False, lineterminator="\n")
    data = text.encode()
    if str(path).endswith(".gz"):
        buffer = io.BytesIO()
        with gzip.GzipFile("", "wb", 6, buffer, mtime=0) as stream:
            stream.write(data)
        data = buffer.getvalue()
    (write_checked if checksum else write_bytes)(path, data)


def read_csv(path: str | Path, **how: Any) -> "pd.DataFrame":
    """A table; `how` is what pandas.read_csv takes. Raises InputError for a missing or damaged file."""
    import pandas as pd

    data = read_checked(path)
    try:
        return pd.read_csv(io.BytesIO(gzip.decompress(data) if str(path).endswith(".gz") else data), **how)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path} is not a whole table: delete it and make it again.") from error


def read_json(path: str | Path) -> Any:
    """What a JSON file says. Raises InputError for a missing or damaged file."""
    try:
        return json.loads(read_checked(path))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a whole JSON file: delete it and make it again.") from error


def write_checked(path: str | Path, data: bytes) -> None:
    """A text, with its checksum beside it."""
    with atomic(path) as part:
        part.write_bytes(data)
        write_bytes(checksums.beside(path), checksums.line(path, data))


def read_checked(path: str | Path) -> bytes:
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: check the path, or let the workflow make it.") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): mend its permissions, or let the workflow make it again."
        ) from error
    checksums.check_text(path, data)
    return data


def write_safetensors(
    path: str | Path,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Write arrays; the metadata is stored as JSON."""
    # One key: safetensors writes several in an order that changes from run to run.
    text = json.dumps({checksums.KEY: checksums.BLANK, **metadata, PROVENANCE: dict(provenance)})
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    write_bytes(path, checksums.seal_weights(save_tensors(arrays, metadata={"mithridate": text})))


def read_notes(path: str | Path) -> dict[str, Any]:
    """The decoded metadata of weights, which are not read, nor is their checksum compared."""
    try:
        with safe_open(path, "np") as file:
            return dict(json.loads(file.metadata()["mithridate"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is no whole artefact of this workflow: delete it and make it again.") from error


def read_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and decoded metadata. Raises InputError for a missing or damaged file."""
    try:
        data = Path(path).read_bytes()
        tensors = load_tensors(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        notes = json.loads(header.get("__metadata__", {}).get("mithridate", "{}"))
        checksums.check_weights(path, data, notes.pop(checksums.KEY))
        return tensors, notes
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: check the path, or let the workflow make it.") from error
    except InputError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not a whole safetensors file: delete it and make it again.") from error


def _set(attributes: h5py.AttributeManager, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        attributes[key] = json.dumps(value) if isinstance(value, dict | list | tuple | type(None)) else value
