"""Face files and single pictures: read right and in pieces, and refused in one sentence where they are wrong."""

import struct
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from mithridate import hdf5_guard
from mithridate.data import faces
from mithridate.data.faces import load_image, open_faces
from tests.unit.making import FUZZ, JUNK, attempt, flipped, flips, other_files_refused, refused

RANDOM = np.random.default_rng(0)
DATA = RANDOM.integers(0, 256, (20, 3, 6, 5), dtype=np.uint8)
LABEL = np.arange(20) % 4
SHAPE = (3, 6, 5)
PIXELS = b"\0\0\0\4IDAT0000" + struct.pack(">I", zlib.crc32(b"IDAT0000"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "faces.h5"


def write(path, data=DATA, label=LABEL, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=data, **options)
        file["label"] = label
    return path


def everything(path, **options):
    with open_faces(path, **options) as opened:
        return opened.images(slice(None)), opened.labels


@pytest.mark.parametrize("dtype", ["u1", "i8", "f4", ">f4", "f8"])
@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "shuffle": True, "chunks": (7, 3, 6, 2)}])
def test_numbers_from_0_to_255_become_0_to_1(path, dtype, options):
    images, labels = everything(write(path, DATA.astype(dtype), LABEL.astype(dtype)[:, None], **options))
    assert (images.dtype, labels.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(images, DATA.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(labels, LABEL)


@pytest.mark.parametrize("chunk", [1, 90 * 6, 1 << 24])
def test_rows_come_in_the_order_asked_for_whatever_the_piece_read(path, monkeypatch, chunk):
    monkeypatch.setattr(faces, "CHUNK_BYTES", chunk)
    expected = DATA.astype(np.float32) / np.float32(255)
    with open_faces(write(path)) as opened:
        assert (len(opened), opened.shape) == (20, SHAPE)
        for index in (
            slice(3, 7), slice(None, None, -3), np.array([19, 0, 5, 5, 4]), np.array([], int), -1 - np.arange(20),
            LABEL == 2, slice(30, 40),
        ):  # fmt: skip
            np.testing.assert_array_equal(opened.images(index), expected[index])
        with pytest.raises(IndexError):
            opened.images(np.array([20]))


@pytest.mark.parametrize("chunks", [None, (10, 3, 20, 20)])
def test_only_the_rows_asked_for_are_read(path, chunks):
    data = np.zeros((3000, 3, 20, 20), np.uint8) + np.arange(3000)[:, None, None, None] % 251
    write(path, data.astype(np.uint8), np.zeros(3000, int), chunks=chunks)
    rows = np.arange(2999, 0, -500)
    tracemalloc.start()
    with open_faces(path) as opened:
        images = opened.images(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(images[:, 0, 0, 0], (rows % 251).astype(np.float32) / np.float32(255))
    assert peak < 500_000 < data.size


def test_what_goes_wrong_while_the_file_is_open_is_not_taken_for_damage(path):
    with pytest.raises(ZeroDivisionError), open_faces(write(path)):
        _ = 1 / 0


BAD = {
    "NaN": ((np.where(DATA == 7, np.nan, DATA), LABEL), "data holds values outside 0 to 255, or NaN, among the images 0 to"),
    "negative": ((DATA.astype(int) - 1, LABEL), "data holds values outside 0 to 255"),
    "bright": ((DATA * np.float32(2), LABEL), "data holds values outside 0 to 255"),
    "unit": ((DATA / 255, LABEL), "as if from 0 to 1 and not to 255"),
    "channels last": ((DATA.transpose(0, 2, 3, 1), LABEL), "data is 20 x 6 x 5 x 3: save images as [N,C,H,W]"),
    "axes": ((DATA[:, 0], LABEL), "data is 20 x 6 x 5: save images as"),
    "text": ((np.array([b"a"] * 20), LABEL), "/data holds |S1, no plain numbers: save it as an array of floats or whole"),
    "logical": ((DATA > 7, LABEL), "/data holds bool, no plain numbers"),
    "complex": ((DATA * 1j, LABEL), "/data holds complex128, no plain numbers"),
    "none": ((DATA[:0], LABEL[:0]), "/data is empty, 0 x 3 x 6 x 5"),
    "lengths": ((DATA, LABEL[1:]), "data holds 20 images but label is 19: give one label per image"),
    "one-hot": ((DATA, np.eye(20)), "data holds 20 images but label is 20 x 20"),
    "fractions": ((DATA, LABEL + 0.5), "label is float64 but labels must be whole numbers"),
    "missing labels": ((DATA, np.full(20, np.nan)), "label is float64 but labels must be whole numbers"),
    "negative label": ((DATA, LABEL - 1.0), "label holds labels from -1 to 2, allowed are 0 to 4095"),
    "huge label": ((DATA, LABEL * 1e300), "label holds labels from 0 to 2147483648"),
    "huge number": ((DATA, np.full(20, 2**64 - 1, np.uint64)), "label holds labels from 18446744073709551615 to"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_named(path, case):
    arrays, sentence = BAD[case]
    refused(everything, write(path, *arrays), sentence)


def test_data_of_another_network_is_refused(path):
    write(path)
    everything(path, shape=SHAPE, num_classes=4)
    refused(everything, path, "images are 3 x 6 x 5 but the network takes 3 x 55 x 47", shape=(3, 55, 47))
    refused(everything, path, "label holds labels from 0 to 3, allowed are 0 to 2", num_classes=3)


def test_black_images_and_dark_ones_are_told_apart(path):
    images, _ = everything(write(path, np.zeros_like(DATA, np.float32)))
    assert not images.any()
    for value in (1, 1.9):
        refused(everything, write(path, np.full_like(DATA, value, np.float32)), "as if from 0 to 1 and not to 255")
    everything(write(path, np.ones_like(DATA)))


def test_files_that_are_none_are_named(path):
    other_files_refused(everything, path)
    with h5py.File(path, "w") as file:
        file["x_train"] = DATA
        file.create_group("data")
    refused(everything, path, "has no data set data: give a file with data [N,C,H,W] and label [N]")


def make(path, data):
    with h5py.File(path, "w") as file:
        data(file)
        file["label"] = LABEL


def external(file, secret):
    file.create_dataset("data", DATA.shape, "u1", external=[(str(secret), 0, DATA.size)])


def virtual(file, secret):
    layout = h5py.VirtualLayout(DATA.shape, "u1")
    layout[:] = h5py.VirtualSource(str(secret), "data", DATA.shape)
    file.create_virtual_dataset("data", layout)


HOSTILE = {
    "external link": (
        lambda file, secret: file.__setitem__("data", h5py.ExternalLink(str(secret), "data")),
        "data is a link to another place or file, which is not followed",
    ),
    "soft link": (
        lambda file, _: file.__setitem__("data", h5py.SoftLink("/label")),
        "data is a link to another place or file",
    ),
    "external storage": (external, "/data keeps its data in other files"),
    "virtual": (virtual, "/data keeps its data in other files"),
    "objects": (lambda file, _: file.create_dataset("data", (20,), h5py.string_dtype()), "/data holds object, no plain"),
    "references": (lambda file, _: file.create_dataset("data", (20,), h5py.ref_dtype), "/data holds object, no plain"),
    "no space": (lambda file, _: file.__setitem__("data", h5py.Empty("f4")), "/data holds float32, no plain"),
    "never written": (lambda file, _: file.create_dataset("data", DATA.shape, "u1"), "of which the file does not hold all"),
    "huge": (lambda file, _: file.create_dataset("data", (1 << 40, 3, 55, 47), "f8"), "of which the file does not hold all"),
    "huge in chunks": (
        lambda file, _: file.create_dataset("data", (1 << 40, 3, 55, 47), "f8", chunks=True, compression=9),
        "of which the file does not hold all",
    ),
    "huge image": (
        lambda file, _: file.create_dataset("data", (20, 1, 1 << 13, 1 << 13), "u1", chunks=True),
        "of which the file does not hold all",
    ),
    "filter": (
        lambda file, _: file.create_dataset("data", (9,), "u1", compression=32015, allow_unknown_filter=True),
        "is packed with another filter than gzip",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_at_once(tmp_path, path, case):
    secret = write(tmp_path / "secret.h5")
    data, sentence = HOSTILE[case]
    make(path, lambda file: data(file, secret))
    refused(everything, path, sentence)


def test_bombs_are_refused(path, monkeypatch):
    write(path, np.zeros((400, 3, 20, 20), np.uint8), np.zeros(400, int), compression=9, chunks=(400, 3, 20, 20))
    everything(path)
    monkeypatch.setattr(hdf5_guard, "SMALL", 10_000)
    refused(everything, path, "claims 480000 bytes but takes ")
    monkeypatch.undo()
    monkeypatch.setattr(hdf5_guard, "BIGGEST_CHUNK", 100_000)
    refused(everything, path, "has chunks of (400, 3, 20, 20): save it with smaller ones")
    monkeypatch.undo()
    monkeypatch.setattr(faces, "BIGGEST_IMAGE", 1000)
    refused(everything, path, "an image of 3 x 20 x 20 is too large")


def test_chunks_that_take_more_than_the_file_has_are_refused(path):
    content = write(path, chunks=(1, *SHAPE)).read_bytes()
    size, forged = ((90).to_bytes(8, "little"), (10_000).to_bytes(8, "little"))
    assert content.count(size) == len(DATA)
    path.write_bytes(content.replace(size, forged))
    refused(everything, path, "claims 20 x 3 x 6 x 5 values, of which the file does not hold all")


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}])
def test_every_truncation_is_noticed(path, options):
    content = write(path, **options).read_bytes()
    for size in range(8, len(content), 97):
        path.write_bytes(content[:size])
        refused(everything, path, "faces.h5 is not a whole HDF5 file (")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "faces.h5"
    return path, write(path, compression="gzip", chunks=(7, 3, 6, 5)).read_bytes()


@FUZZ
@given(JUNK)
def test_random_bytes_raise_nothing_else(whole, data):
    attempt(everything, whole[0], data)


@settings(FUZZ, max_examples=80)
@given(flips(4000))
def test_damaged_bytes_raise_nothing_else(whole, places):
    attempt(everything, whole[0], flipped(whole[1], places))


# Single pictures.


def picture(path, mode="RGB", size=(6, 5), **options):
    channels = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,), "CMYK": (4,)}[mode]
    values = np.random.default_rng(1).integers(0, 256, (*size, *channels), dtype=np.uint8)
    Image.fromarray(values, mode=None if mode != "CMYK" else mode).save(path, **options)
    return values


def test_a_picture_of_the_right_size_is_taken_as_it_is(tmp_path, capsys):
    values = picture(tmp_path / "x.png")
    image = load_image(tmp_path / "x.png", SHAPE)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, values.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    values = picture(tmp_path / "g.png", "L")
    np.testing.assert_array_equal(load_image(tmp_path / "g.png", (1, 6, 5))[0], values / np.float32(255))
    picture(tmp_path / "x.jpeg", quality=100, subsampling=0)
    np.testing.assert_allclose(load_image(tmp_path / "x.jpeg", SHAPE), image, atol=0.05)
    assert not capsys.readouterr().err


def test_a_face_out_of_a_data_file_and_its_picture_are_the_same(tmp_path, path):
    with open_faces(write(path)) as opened:
        image = opened.images(slice(3, 4))[0]
    Image.fromarray(DATA[3].transpose(1, 2, 0)).save(tmp_path / "3.png")
    np.testing.assert_array_equal(load_image(tmp_path / "3.png", SHAPE), image)


def test_every_change_is_said(tmp_path, capsys):
    path = tmp_path / "x.png"
    values = picture(path, "RGBA", (9, 10))
    image = load_image(path, SHAPE)
    expected = Image.fromarray(values[..., :3]).resize((5, 6), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(image, np.asarray(expected).transpose(2, 0, 1) / np.float32(255))
    said = capsys.readouterr().err
    assert f"warning: {path}: its transparency is dropped\n" in said
    assert f"warning: {path}: it is resized from 9 x 10 to 6 x 5 (height x width)\n" in said
    values = picture(path, "LA")
    np.testing.assert_array_equal(load_image(path, SHAPE)[2], values[..., 0] / np.float32(255))
    said = capsys.readouterr().err
    assert "transparency is dropped" in said
    assert "it is grey: its one channel is repeated" in said
    picture(path)
    assert load_image(path, (1, 6, 5)).shape == (1, 6, 5)
    assert "its colours are turned to grey" in capsys.readouterr().err
    Image.new("P", (5, 6)).save(path, transparency=0)
    load_image(path, SHAPE)
    assert "transparency is dropped" in capsys.readouterr().err


def test_a_photograph_is_turned_upright(tmp_path):
    path = tmp_path / "x.png"
    values = picture(path, size=(5, 6))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(values).save(path, exif=exif)
    turned = np.rot90(values, -1).transpose(2, 0, 1)
    np.testing.assert_array_equal(load_image(path, SHAPE), turned / np.float32(255))


def png_header(width, height):
    """A PNG that claims a size and ends there."""
    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + content + struct.pack(">I", zlib.crc32(content)) + PIXELS


def test_pictures_that_cannot_be_meant_are_refused(tmp_path, monkeypatch):
    def load(path):
        return load_image(path, SHAPE)

    path = tmp_path / "x.png"
    refused(load, path, "does not exist or is no file")
    path.write_text("no picture")
    refused(load, path, "cannot be decoded as PNG or JPEG (cannot identify image file")
    frames = [Image.new("RGB", (5, 6), (i, 0, 0)) for i in (0, 99)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    refused(load, path, "is an animation")
    frames[0].save(path, "GIF")
    refused(load, path, "cannot be decoded as PNG or JPEG")
    Image.new("I;16", (5, 6)).save(path)
    refused(load, path, "has more than 8 bits a channel")
    colour = bytearray(png_header(5, 6))
    colour[24:26] = b"\x10\x02"  # 16 bits, red green blue: Pillow halves it without a word
    colour[29:33] = zlib.crc32(colour[12:29]).to_bytes(4, "big")
    path.write_bytes(colour)
    refused(load, path, "has more than 8 bits a channel")
    path.write_bytes(png_header(40_000, 10_000))
    refused(load, path, "cannot be decoded as PNG or JPEG (Image size (400000000 pixels) exceeds limit")
    path.write_bytes(png_header(10_000, 10_000))
    refused(load, path, "has 10000 x 10000 pixels: shrink it")
    picture(path)
    refused(load_image, path, "cannot become an image of 4 channels", shape=(4, 6, 5))
    for name in ("x.png", "x.jpg"):
        picture(tmp_path / name, size=(40, 40))
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        refused(load, tmp_path / name, "cannot be decoded as PNG or JPEG")
