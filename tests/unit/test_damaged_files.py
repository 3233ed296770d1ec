"""Readers of a user's files: damaged and hostile ones are read or refused in one sentence, at once, and run nothing.

`make fuzz` goes on from here for as long as one likes (tests/fuzz).
"""

import os
import pickle
import zipfile
import zlib
from random import Random

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mithridate.data import files
from mithridate.data.files import decode, load_images, load_npz
from mithridate.data.vision import load_vision
from mithridate.digests import digest
from mithridate.errors import InputError
from mithridate.foreign import open_foreign
from mithridate.hdf5_guard import check_stored
from tests.fuzz.damage import damaged
from tests.fuzz.readers import NPZ, READERS, SCORES, check

RUNS = settings(max_examples=120, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@pytest.mark.parametrize("name", READERS)
def test_whole_files_are_read(name, tmp_path):
    for content in READERS[name].whole():
        assert check(READERS[name], tmp_path, content) is None


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_or_refused_in_one_sentence(name, tmp_path):
    reader = READERS[name]
    whole = reader.whole()

    @RUNS
    @given(st.sampled_from(whole), st.integers(0, 2**32 - 1))
    def run(content, seed):
        check(reader, tmp_path, damaged(reader.suffix, content, Random(seed)))

    run()


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_of_this_kind_is_refused(name, tmp_path):
    for content in (
        b"",
        b"\0" * 100,
        b"PK\x03\x04" + bytes(40),
        b"\x89HDF\r\n\x1a\n",
        os.urandom(300),
        b"\x93NUMPY\x01\x00",
    ):
        assert check(READERS[name], tmp_path, content) is not None


# Nothing that a file holds is run.


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def bombs(arrays):
    """The same arrays as .npz, one of which holds a malicious object."""
    return {**arrays, next(reversed(arrays)): np.array([Bomb()], object)}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", READERS)
def test_a_pickle_in_place_of_any_file_is_never_loaded(name, protocol, tmp_path):
    assert check(READERS[name], tmp_path, pickle.dumps(Bomb(), protocol)) is not None


def test_objects_in_arrays_and_tensor_files_are_never_loaded(tmp_path):
    import torch

    def refused(name, save):
        save(tmp_path / READERS[name].file)
        assert check(READERS[name], tmp_path, (tmp_path / READERS[name].file).read_bytes()) is not None

    refused("npz", lambda path: np.savez(path, allow_pickle=True, **bombs(NPZ)))
    refused("scores_npz", lambda path: np.savez(path, allow_pickle=True, **bombs(SCORES)))
    refused("npy_images", lambda path: np.save(path, np.array([Bomb()], object), allow_pickle=True))
    refused("npy_labels", lambda path: np.save(path, np.array([Bomb()], object), allow_pickle=True))
    refused("scores_pth", lambda path: torch.save({"labels": Bomb()}, path))
    refused("scores_pth", lambda path: torch.save({"labels": Bomb()}, path, _use_new_zipfile_serialization=False))


def test_pickles_in_the_place_of_published_data_are_never_loaded(tmp_path):
    cifar, mnist = tmp_path / "cifar-10-batches-py", tmp_path / "MNIST" / "processed"
    cifar.mkdir()
    mnist.mkdir(parents=True)
    for number in range(1, 6):
        (cifar / f"data_batch_{number}").write_bytes(pickle.dumps(Bomb()))
    for name in ("test_batch", "batches.meta"):
        (cifar / name).write_bytes(pickle.dumps(Bomb()))
    for name in ("training.pt", "test.pt"):
        (mnist / name).write_bytes(pickle.dumps(Bomb()))
    for name in ("cifar10", "mnist"):
        with pytest.raises(InputError, match=f"{name} was looked for as"):
            load_vision(name, str(tmp_path))


def test_yaml_makes_no_objects(tmp_path):
    reader = READERS["config"]
    for text in (
        "seed: !!python/object/apply:os.system [exit]",
        "seed: !!python/name:os.system",
        "seed: !!python/object/new:subprocess.Popen [ls]",
        "__use_yte__: true\nseed: ?__import__('os').getpid()",
    ):
        assert check(reader, tmp_path, text.encode()) is not None


# What asks for more than it holds.


def test_one_number_may_not_stand_for_many(tmp_path):
    import torch

    path = tmp_path / "scores.pth"
    torch.save(
        {"labels": torch.zeros(1, dtype=torch.int64).expand(10**6), "scores": torch.zeros(1).expand(10**6, 50, 1000)},
        path,
    )
    with pytest.raises(InputError, match="claims more values than the file holds"), open_foreign(path):
        pass


def test_a_compressed_tensor_file_is_refused(tmp_path):
    import torch

    plain, path = tmp_path / "plain.pth", tmp_path / "scores.pth"
    torch.save({"scores": torch.zeros(9)}, plain)
    with zipfile.ZipFile(plain) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    with pytest.raises(InputError, match="is compressed, as torch"), open_foreign(path):
        pass


def test_scores_that_unpack_to_far_more_than_the_file_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SMALL", 10_000)
    np.savez_compressed(tmp_path / "scores.npz", **{**SCORES, "scores": np.zeros((600, 40, 3))})
    with pytest.raises(InputError, match="scores claims 576000 bytes but takes"), open_foreign(tmp_path / "scores.npz"):
        pass


def test_a_picture_of_a_hundred_million_pixels_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (10_000, 10_000)).save(tmp_path / "wide.png")
    with pytest.raises(InputError, match="has 10000 x 10000 pixels: shrink it to at most"):
        decode([tmp_path / "wide.png"], (8, 8))


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nquit\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.4\n",
    ],
)
def test_what_other_programs_would_have_to_draw_is_no_picture(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.png cannot be decoded"):
        decode([tmp_path / "x.png"], (8, 8))


# HDF5: what lies elsewhere, and what crashes its library.

SECRET = "secret.h5"


def elsewhere(file, name, secret):
    layout = h5py.VirtualLayout((6,), "i8")
    layout[:] = h5py.VirtualSource(str(secret), "labels", (6,))
    match name:
        case "virtual":
            file.create_virtual_dataset("labels", layout)
        case "external storage":
            file.create_dataset("labels", (6,), "i8", external=[(str(secret), 0, 48)])
        case "external link":
            file["labels"] = h5py.ExternalLink(str(secret), "labels")
        case "soft link":
            file["labels"] = h5py.SoftLink("/subset_ids")
        case "link to itself":
            file["labels"] = h5py.SoftLink("/labels")
        case "huge":
            file.create_dataset("labels", (1 << 40,), "i8", chunks=(1 << 20,))
        case "texts":
            file.create_dataset("labels", data=["a"] * 6)


@pytest.mark.parametrize(
    "name", ["virtual", "external storage", "external link", "soft link", "link to itself", "huge", "texts"]
)
def test_scores_keep_their_data_in_their_file(tmp_path, name):
    with h5py.File(tmp_path / SECRET, "w") as file:
        file["labels"] = np.arange(6) % 3
    path = tmp_path / "scores.h5"
    with h5py.File(path, "w") as file:
        for key in ("scores", "subset_ids"):
            file[key] = SCORES[key]
        elsewhere(file, name, tmp_path / SECRET)
    with pytest.raises(InputError, match=r"scores\.h5: /?labels "), open_foreign(path):
        pass
    if name in ("virtual", "external storage", "huge"):
        with pytest.raises(InputError, match=r"scores\.h5: /labels "):
            digest(path)


def test_a_chunk_without_bytes_whose_checksum_would_crash_the_library_is_refused(tmp_path):
    """Such a chunk made h5py 3.16 (HDF5 1.14) end the process."""
    reader, found = READERS["faces"], 0
    content = reader.whole()[2]
    path = tmp_path / "whole.h5"
    path.write_bytes(content)
    with h5py.File(path) as file:
        chunk = file["label"].id.get_chunk_info(0)
    size, place = chunk.size.to_bytes(4, "little"), 0
    while (place := content.find(size, place)) >= 0:  # wherever the number stands, one place is the chunk's size
        message = check(reader, tmp_path, content[:place] + bytes(4) + content[place + 4 :])
        found += message is not None and "of which the file does not hold all" in message
        place += 1
    assert found


def test_deeply_nested_groups_are_not_walked(tmp_path):
    with h5py.File(tmp_path / "strip.h5", "w") as file:
        group = file
        for _ in range(500):
            group = group.create_group("a")
    with pytest.raises(InputError, match=r"strip\.h5 is no artefact of this workflow"):
        digest(tmp_path / "strip.h5")


HOW = {
    "plain": {},
    "gzip": {"compression": "gzip"},
    "shuffled": {"compression": "gzip", "shuffle": True},
    "summed": {"compression": "gzip", "shuffle": True, "fletcher32": True},
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("chunk", [b"ab", zlib.compress(b"ab"), zlib.compress(bytes(1 << 24))])
def test_a_chunk_that_holds_another_number_of_bytes_than_its_shape_is_refused(tmp_path, how, chunk):
    """HDF5 2.0 reads on in memory behind such a chunk, or crashes."""
    path = tmp_path / "short.h5"
    with h5py.File(path, "w") as file:
        for name in ("whole", "data"):
            data = file.create_dataset(name, data=np.arange(1024, dtype="i4"), chunks=(1024,), **HOW[how])
        data.id.write_direct_chunk((0,), chunk)
    with h5py.File(path) as file, pytest.raises(InputError, match="values, of which the file does not hold all"):
        check_stored(path, file["data"], "fui")


@pytest.mark.parametrize("how", [{"compression": "lzf"}, {"scaleoffset": 4}])
def test_filters_that_crash_on_damage_are_refused(tmp_path, how):
    path = tmp_path / "packed.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", data=np.arange(1024, dtype="i4"), chunks=(1024,), **how)
        with pytest.raises(InputError, match="is packed with another filter than gzip"):
            check_stored(path, data, "fui")


def test_links_in_folders_may_lead_anywhere_but_not_in_circles(tmp_path):
    np.savez(tmp_path / "mine.npz", **NPZ)
    (tmp_path / "link.npz").symlink_to("mine.npz")
    assert len(load_npz("mine", tmp_path / "link.npz").x_train) == 6
    (tmp_path / "circle.npz").symlink_to("circle.npz")
    with pytest.raises(InputError, match=r"circle\.npz does not exist or is no file"):
        load_npz("mine", tmp_path / "circle.npz")
    ant = tmp_path / "pets" / "train" / "ant"
    ant.mkdir(parents=True)
    (tmp_path / "pets" / "test").symlink_to("train")
    (ant / "a.png").symlink_to("a.png")
    with pytest.raises(InputError, match=r"a\.png cannot be decoded"):
        load_images("pets", tmp_path / "pets")
    os.mkfifo(tmp_path / "faces.h5")
    with pytest.raises(InputError, match=r"faces\.h5 does not exist or is no file"):
        READERS["faces"].read(tmp_path / "faces.h5")
