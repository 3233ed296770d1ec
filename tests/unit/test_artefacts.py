"""File formats: equal contents give equal files, nothing half-written, damaged files are named."""

import resource
import signal
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest

from mithridate import artefacts
from mithridate.errors import InputError

ARRAYS = {"x": np.arange(5000).reshape(50, 100), "empty": np.zeros((0, 3))}


@contextmanager
def full_disk(limit: int):
    """Writes beyond `limit` bytes fail in the operating system, as they do on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


WRITERS = {
    "a.h5": lambda path: artefacts.write_hdf5(path, {"x": np.arange(50_000)}, {"k": 3}, {}),
    "a.csv": lambda path: artefacts.write_csv(path, pd.DataFrame({"x": range(50_000)})),
    "a.csv.gz": lambda path: artefacts.write_csv(path, pd.DataFrame({"x": np.random.default_rng(0).random(50_000)})),
    "a.safetensors": lambda path: artefacts.write_safetensors(path, {"x": np.arange(50_000)}, {"k": 3}, {}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_what_was_there_and_nothing_else(tmp_path, name):
    path = tmp_path / name
    path.write_text("before")
    with full_disk(20_000), pytest.raises(InputError, match=f"{name} could not be written.*free space"):
        WRITERS[name](path)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert path.read_text() == "before"


@pytest.mark.parametrize("name", WRITERS)
def test_equal_contents_give_equal_bytes(tmp_path, name):
    for folder in ("one", "two"):
        WRITERS[name](tmp_path / folder / name)
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not be written"):
        artefacts.write_bytes(tmp_path / "file" / "a.csv", b"x")


def test_hdf5_round_trip_and_memory_map(tmp_path):
    path = tmp_path / "a.h5"
    artefacts.write_hdf5(path, ARRAYS, {"k": 3, "names": ["a", "b"]}, {"commit": "c"})
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(artefacts.read_hdf5(path, name)[name], array)
        np.testing.assert_array_equal(artefacts.memory_map(path, name), array)
    assert artefacts.read_attributes(path) == {"k": 3, "names": '["a", "b"]'}


def test_damaged_files_are_named_with_a_remedy(tmp_path):
    path = tmp_path / "a.h5"
    with pytest.raises(InputError, match="does not exist"):
        artefacts.read_hdf5(path, "x")
    artefacts.write_hdf5(path, ARRAYS, {}, {})
    with pytest.raises(InputError, match="no data set y"):
        artefacts.read_hdf5(path, "x", "y")
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"a.h5 .*again"):
            artefacts.read_hdf5(path, "x")
    weights = tmp_path / "a.safetensors"
    artefacts.write_safetensors(weights, {"x": np.arange(9)}, {"k": [1]}, {})
    assert artefacts.read_safetensors(weights)[1]["k"] == [1]
    whole = weights.read_bytes()
    for size in (0, 5, len(whole) - 1):
        weights.write_bytes(whole[:size])
        with pytest.raises(InputError, match="not a whole safetensors file"):
            artefacts.read_safetensors(weights)
