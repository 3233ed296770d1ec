"""Files that are whole or absent: written beside their place and renamed."""

import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mithridate.errors import InputError, unwritten

HOST = os.uname().nodename


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the block ends well and vanishes when it does not.

    Raises InputError where the file system refuses to write (no space, no permission).
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{HOST}-{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(path)
        try:
            yield part
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(unwritten(path, error)) from error


def _remove_left(path: Path) -> None:
    """Remove what processes that were killed on this machine left of the file."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.{glob.escape(HOST)}-*-*.part"):
        try:
            os.kill(int(part.name.rsplit("-", 2)[1]), 0)
        except ProcessLookupError:
            part.unlink(missing_ok=True)
        except (PermissionError, ValueError):  # somebody else's process, somebody else's name
            pass


def write_bytes(path: str | Path, data: bytes) -> None:
    with atomic(path) as part:
        part.write_bytes(data)
