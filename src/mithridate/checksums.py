"""Checksums (SHA-256): artefacts are checked when they are opened, so that damage never becomes a wrong number.

HDF5 files hold it in a block that the format reserves before its own data, weights in their metadata, and texts
(tables, JSON), which have no place for it, in a hidden neighbour that `sha256sum -c` reads too. HDF5 files and texts
without one, such as a user's own, are read as they are.
"""

import hashlib
import os
from functools import cache
from pathlib import Path

from mithridate.errors import InputError

BLOCK = 512  # bytes before an HDF5 file's own data
MARK = b"mithridate sha256 "
KEY, BLANK = "checksum", "0" * 64  # in the metadata of weights; what stands there while the checksum is computed


def seal_hdf5(path: Path) -> None:
    """Write the checksum into the block of a new file (h5py: userblock_size=BLOCK)."""
    found = _body(path)
    with path.open("r+b") as file:
        file.write(MARK + found + b"\n")


def check_hdf5(path: str | Path) -> None:
    """Raises InputError where the file is not what it was when it was written."""
    status = os.stat(path)
    if not _whole(str(path), status.st_ino, status.st_size, status.st_mtime_ns):
        raise damaged(path)


def seal_weights(data: bytes) -> bytes:
    """The bytes of a safetensors file in whose metadata BLANK is the first of all values."""
    place = data.index(BLANK.encode())
    return data[:place] + hashlib.sha256(data).hexdigest().encode() + data[place + len(BLANK) :]


def check_weights(path: str | Path, data: bytes, given: str) -> None:
    place = data.index(given.encode())
    found = hashlib.sha256(data[:place] + BLANK.encode())
    found.update(memoryview(data)[place + len(given) :])
    if found.hexdigest() != given:
        raise damaged(path)


def beside(path: str | Path) -> Path:
    """The file that holds a text's checksum."""
    return Path(path).with_name(f".{Path(path).name}.sha256")


def line(path: str | Path, data: bytes) -> bytes:
    """Its content."""
    return f"{hashlib.sha256(data).hexdigest()}  {Path(path).name}\n".encode()


def check_text(path: str | Path, data: bytes) -> None:
    known = beside(path)
    if known.is_file() and known.read_bytes() != line(path, data):
        raise damaged(path)


def damaged(path: str | Path) -> InputError:
    hidden = f" (and {beside(path).name} beside it)" if beside(path).is_file() else ""
    return InputError(
        f"{path} is damaged or was changed after it was made: delete it{hidden} and make or copy it again."
    )


@cache
def _whole(path: str, *_: int) -> bool:
    """Whether an HDF5 file is what it was; once for each state of the file, since scripts open some several times."""
    with open(path, "rb") as file:
        block = file.read(BLOCK)
    given = block[len(MARK) :][:64]
    return not block.startswith(MARK) or given == _body(Path(path))


def _body(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(BLOCK)
        return hashlib.file_digest(file, "sha256").hexdigest().encode()
