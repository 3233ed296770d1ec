"""File formats: equal contents give equal files, nothing half-written, damaged files are named."""

import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from mithridate import artefacts, atomic, checksums, digests
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


def many_groups(path):
    with artefacts.new_hdf5(path, {}, {}) as file:
        for number in range(1000):
            file[f"group{number}/x"] = np.arange(10)


def compressed(path):
    with artefacts.new_hdf5(path, {}, {}) as file:
        whole = file.create_dataset("x", (64, 1000), float, chunks=(8, 1000), compression="gzip", shuffle=True)
        for start in range(0, 64, 8):
            whole[start : start + 8] = np.random.default_rng(start).random((8, 1000))


WRITERS = {
    "groups.h5": many_groups,  # a library that sees these two writes fail crashes
    "compressed.h5": compressed,
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
        atomic.write_bytes(tmp_path / "file" / "a.csv", b"x")


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


READERS = {".h5": digests.digest, ".safetensors": artefacts.read_safetensors, ".csv": artefacts.read_csv, ".gz": artefacts.read_csv}  # fmt: skip


@pytest.mark.parametrize("name", ["a.h5", "compressed.h5", "a.csv", "a.csv.gz", "a.safetensors"])
def test_one_flipped_bit_anywhere_is_refused_or_changes_nothing(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    read, whole, random = READERS[path.suffix], path.read_bytes(), np.random.default_rng(0)
    expected, refused = repr(read(path)), 0
    for place in [0, 30, len(whole) - 1, *random.integers(0, len(whole), 60)]:
        data = bytearray(whole)
        data[place] ^= 1 << int(random.integers(8))
        path.write_bytes(data)
        try:
            assert repr(read(path)) == expected
        except InputError as error:
            refused += str(error).startswith(str(path)) and str(error).endswith("again.")
    assert refused >= 60  # a bit of the word that announces the checksum is harmless


@pytest.mark.parametrize("name", ["a.h5", "a.csv", "a.csv.gz", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", bytes(5000), b"other,text\n1,2\n"])
def test_other_content_is_refused(tmp_path, name, content):
    path = tmp_path / name
    WRITERS[name](path)
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{name} is .*again"):
        READERS[path.suffix](path)


def test_files_without_a_checksum_are_read_as_they_are(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = [1, 2]
    assert artefacts.read_hdf5(tmp_path / "a.h5", "x")["x"].tolist() == [1, 2]
    artefacts.write_csv(tmp_path / "a.csv", pd.DataFrame({"x": [1]}), checksum=False)
    assert [path.name for path in tmp_path.glob(".*")] == []
    (tmp_path / "a.csv").write_text("x\n2\n")
    assert artefacts.read_csv(tmp_path / "a.csv")["x"].tolist() == [2]


def test_the_checksum_of_a_table_is_one_that_sha256sum_reads(tmp_path):
    WRITERS["a.csv"](tmp_path / "a.csv")
    name = checksums.beside(tmp_path / "a.csv").name
    assert subprocess.run(["sha256sum", "-c", "--status", name], cwd=tmp_path).returncode == 0


def test_what_a_killed_process_left_is_removed_and_a_living_ones_file_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, living = (tmp_path / f".a.csv.{atomic.HOST}-{pid}-12ab.part" for pid in (dead.pid, os.getppid()))
    for part in (left, living):
        part.touch()
    WRITERS["a.csv"](tmp_path / "a.csv")
    assert not left.exists()
    assert living.exists()


def test_jobs_read_tables_in_no_other_way():
    for script in (Path(__file__).parents[2] / "workflow" / "scripts").glob("*.py"):
        assert "pd.read_csv" not in script.read_text(), script
