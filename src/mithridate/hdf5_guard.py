"""HDF5 that anyone may have written, read without trust.

Nobody vouches for published data sets and networks. Only what lies in the file itself and is asked for by name is read,
plain numbers and short texts only, and nothing is allocated before the file is known to hold it.
"""

import math
import resource
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from mithridate.checksums import check_hdf5
from mithridate.data.checks import shape_text
from mithridate.errors import InputError, brief, short

# What h5py raises for damage of any kind, and for types that NumPy does not know.
UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, OverflowError, MemoryError)
GZIP, SHUFFLE, FLETCHER32 = 1, 2, 3  # the filters that are read; the library's others crash on damage
CHECKSUM = 4  # bytes
BIGGEST_CHUNK = 1 << 28
# Compressed data sets up to SMALL bytes are read as they are; larger ones must not claim more than RATIO times what
# they take in the file (as in `mithridate.data.files`).
SMALL, RATIO = 1 << 26, 100
LONGEST_TEXT = 1 << 20  # bytes of the texts of an attribute
LITTLE = 1 << 27  # bytes


@contextmanager
def damage(path: str | Path) -> Iterator[None]:
    """Turns whatever h5py raises in the block into an InputError."""
    try:
        yield
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(
            f"{path} is not a whole HDF5 file ({brief(error)}; truncated, or in another format?): copy it again."
        ) from error


def open_foreign(path: str | Path) -> h5py.File:
    """An HDF5 file of unknown origin, for reading. Raises InputError where there is none."""
    if not Path(path).is_file():
        raise InputError(f"{path} does not exist or is no file: give the path of an HDF5 file (.h5).")
    with damage(path):
        check_hdf5(path)
        return h5py.File(path, "r")


def member(path: str | Path, group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """What lies under `name` (a/b/c) in the group; None where there is nothing.

    Raises InputError for links to other places, in this file or another one: they are not followed.
    """
    for part in name.split("/"):
        link = group.get(part, getlink=True) if part and isinstance(group, h5py.Group) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise InputError(
                f"{path}: {short(name)} is a link to another place or file, which is not followed: copy the data itself"
                " into the file."
            )
        group = group[part]
    return group


def check_stored(path: str | Path, dataset: h5py.Dataset, kinds: str) -> None:
    """That a data set is plain numbers of one of NumPy's `kinds`, f or fui, all of which are in this file. Reads none
    of them.

    Raises InputError as `check_held` does, and for other types, none at all, and sizes out of proportion to the file.
    """
    where = f"{path}: {short(dataset.name)}"
    if dataset.shape is None or dataset.dtype.kind not in kinds:
        raise InputError(
            f"{where} holds {short(dataset.dtype)}, no plain numbers: save it as an array of"
            f" {'floats' if kinds == 'f' else 'floats or whole numbers'}."
        )
    if h5py.h5t.py_create(dataset.dtype) != dataset.id.get_type():
        raise InputError(f"{where} holds numbers of an unusual make: save it as an array of {short(dataset.dtype)}.")
    if 0 in dataset.shape:
        raise InputError(f"{where} is empty, {shape_text(dataset.shape)}: save it with its values.")
    check_held(path, dataset)
    if dataset.nbytes > max(SMALL, RATIO * dataset.id.get_storage_size()):
        raise InputError(
            f"{where} claims {dataset.nbytes} bytes but takes {dataset.id.get_storage_size()} in the file: if that is"
            " right, save it uncompressed."
        )


def check_held(path: str | Path, dataset: h5py.Dataset) -> None:
    """That all of a data set is in this file, so that it can be read. Raises InputError for virtual data sets, data in
    other files, filters other than gzip, shuffle and fletcher32, and parts that are missing or too short."""
    where, length = f"{path}: {short(dataset.name)}", Path(path).stat().st_size
    made, stored = dataset.id.get_create_plist(), dataset.id.get_storage_size()
    if dataset.is_virtual or made.get_external_count():
        raise InputError(f"{where} keeps its data in other files, which are not opened: copy the data into the file.")
    filters = [made.get_filter(number)[0] for number in range(made.get_nfilters())]
    if not {*filters} <= {GZIP, SHUFFLE, FLETCHER32}:
        raise InputError(f"{where} is packed with another filter than gzip: save it with gzip or without.")
    if dataset.shape is None:
        return
    if dataset.chunks:
        if math.prod(dataset.chunks) * dataset.dtype.itemsize > BIGGEST_CHUNK:
            raise InputError(f"{where} has chunks of {dataset.chunks}: save it with smaller ones.")
        chunks = math.prod(-(-side // step) for side, step in zip(dataset.shape, dataset.chunks, strict=True))
        whole = chunks == dataset.id.get_num_chunks() and _chunks_are_whole(dataset, filters, length)
    else:
        whole = math.prod(dataset.shape) * dataset.dtype.itemsize == stored
    if not whole or stored > length:
        raise InputError(
            f"{where} claims {shape_text(dataset.shape)} values, of which the file does not hold all: copy or save it"
            " again."
        )


def _chunks_are_whole(dataset: h5py.Dataset, filters: list[int], length: int) -> bool:
    """Whether every chunk lies in the file and holds as many bytes as its shape says. The HDF5 library does not ask: it
    reads on in memory where there are fewer, or crashes."""
    size, found = math.prod(dataset.chunks) * dataset.dtype.itemsize, []

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        there = chunk.filter_mask == 0 and 0 < chunk.size <= length - chunk.byte_offset
        found.append(chunk.chunk_offset if there and (filters or chunk.size == size) else None)

    dataset.id.chunk_iter(note)
    return None not in found and all(
        _unpacked(dataset.id.read_direct_chunk(place)[1], filters, size) == size for place in found if filters
    )


def _unpacked(data: bytes, filters: list[int], size: int) -> int:
    """The bytes that a chunk unpacks to; -1 where it does not, or to more than a chunk."""
    for one in reversed(filters):
        if one == FLETCHER32:
            if len(data) < CHECKSUM:
                return -1
            data = data[:-CHECKSUM]
        elif one == GZIP:
            try:
                data = zlib.decompressobj().decompress(data, size + CHECKSUM * len(filters) + 1)
            except zlib.error:
                return -1
    return len(data)


def read_texts(path: str | Path, group: h5py.Group, name: str) -> list[str]:
    """The texts of one attribute, not read before it is known to be short; none where there is no such attribute.

    `hdf5_heaps.check_heaps` goes before the first one of a file. Raises InputError for anything but texts, and for long
    ones.
    """
    if name not in group.attrs:
        return []
    attribute = group.attrs.get_id(name)
    if 0 in (attribute.shape or ()):
        return []
    kind = h5py.check_string_dtype(attribute.dtype)
    if kind is None or attribute.shape is None or math.prod(attribute.shape) * (kind.length or 1) > LONGEST_TEXT:
        raise InputError(f"{path}: the attribute {name} holds no texts as Keras writes them: save it with Keras 2.")
    with little_memory():
        values = np.asarray(group.attrs[name], object).reshape(-1)
    texts = [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    if sum(len(text.encode()) for text in texts) > LONGEST_TEXT:
        raise InputError(f"{path}: the attribute {name} is longer than a network's: save it with Keras 2.")
    return texts


@contextmanager
def little_memory() -> Iterator[None]:
    """Lets the process take LITTLE more memory at most, where the system (Linux) tells how much it has: the HDF5
    library allocates the length that a text of variable length claims, up to 4 GB, before it looks for the text."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    statistics = Path("/proc/self/statm")
    if statistics.exists():
        most = int(statistics.read_text().split()[0]) * resource.getpagesize() + LITTLE
        if soft == resource.RLIM_INFINITY or soft > most:
            resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
