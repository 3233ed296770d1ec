"""What several tests make in the same way."""

import itertools
import re
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from mithridate.checksums import seal_hdf5
from mithridate.data.partition import Subsets
from mithridate.errors import InputError

MAGIC = b"\x89HDF\r\n\x1a\n"  # what HDF5 begins with
FUZZ = settings(max_examples=40, deadline=None, derandomize=True, database=None)
JUNK = st.binary(max_size=600).map(lambda data: MAGIC + data)


def subsets(sizes: list[int] | np.ndarray) -> Subsets:
    """Disjoint subsets of these sizes, of which only the sizes matter."""
    ends, k = np.cumsum(sizes), len(sizes)
    none, indices = np.zeros((k, 1)), np.split(np.arange(ends[-1]), ends[:-1])
    return Subsets(np.repeat(np.arange(k), sizes), indices, none, none, np.zeros(1, np.int64), k, 1, "pixel_sum", "a")


def trained_members(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills with the numbers of the members that are trained from now on."""
    from mithridate.training.tile import TileTrainer  # with PyTorch, which most tests here do without

    trained: list[int] = []
    steps = TileTrainer.steps

    def counted(self, slots):
        trained.extend(subset.number for subset in slots if subset is not None)
        return steps(self, slots)

    monkeypatch.setattr(TileTrainer, "steps", counted)
    monkeypatch.setattr("mithridate.training.family.check_isolation", lambda recipe, build, dtype: None)
    return trained


@contextmanager
def edited(path: Path) -> Iterator[h5py.File]:
    """An artefact to be changed in place, with the checksum of what it becomes."""
    with h5py.File(path, "r+") as file:
        yield file
    seal_hdf5(path)


def refused(load: Callable[..., object], path: Path, sentence: str, **options: Any) -> None:
    """`load` refuses the file in one sentence that begins with it, at once, with next to nothing allocated."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=re.escape(sentence)) as caught:
            load(path, **options)
        assert tracemalloc.get_traced_memory()[1] < 1 << 25
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert ": " in message.removeprefix(str(path))


def other_files_refused(load: Callable[..., object], path: Path) -> None:
    """`load` refuses a file that is missing, a folder, and what is no HDF5."""
    refused(load, path, "does not exist or is no file")
    refused(load, path.parent, "does not exist or is no file")
    for content in (b"", b"no HDF5" * 1000, MAGIC + bytes(500)):
        path.write_bytes(content)
        refused(load, path, f"{path.name} is not a whole HDF5 file (")


def attempt(load: Callable[..., object], path: Path, content: bytes) -> None:
    """`load` reads the file of this content or refuses it in one sentence that begins with it."""
    path.write_bytes(content)
    message = str(path)
    try:
        load(path)
    except InputError as error:
        message = str(error)
    assert message.startswith(str(path))
    assert "\n" not in message


def flips(last: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Places up to `last`, and what the bytes there become different by."""
    return st.lists(st.tuples(st.integers(0, last), st.integers(1, 255)), min_size=1, max_size=8)


def flipped(content: bytes, places: list[tuple[int, int]]) -> bytes:
    changed = bytearray(content)
    for place, value in places:
        changed[place] ^= value
    return bytes(changed)


def words_apart(figure, words):
    """That no word of a drawn figure leaves it or lies over another."""
    extents = [word.get_window_extent() for word in words if word.get_text() and word.get_visible()]
    whole = figure.bbox.padded(0.5)
    for extent in extents:
        assert whole.x0 <= extent.x0 <= extent.x1 <= whole.x1
        assert whole.y0 <= extent.y0 <= extent.y1 <= whole.y1
    for one, other in itertools.combinations(extents, 2):
        assert not one.padded(-1).overlaps(other.padded(-1))
