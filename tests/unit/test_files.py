"""A user's own files: read right, and refused in one sentence where they are wrong."""

import io
import pickle
import re
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy
from PIL import Image

from mithridate.data import files
from mithridate.data.files import decode, load_images, load_npz
from mithridate.data.sources import load_source
from mithridate.errors import InputError
from mithridate.options.data import DataOptions

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "x_train": RANDOM.integers(0, 256, (9, 6, 5), dtype=np.uint8),
    "y_train": np.arange(9, dtype=np.uint8) % 3,
    "x_test": RANDOM.integers(0, 256, (4, 6, 5), dtype=np.uint8),
    "y_test": np.arange(4) % 2,
}
COLOUR = RANDOM.integers(0, 256, (9, 6, 5, 3), dtype=np.uint8)


def in_colour(x_train):
    return {**ARRAYS, "x_train": x_train, "x_test": x_train[:4]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mine.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_grey_images_get_a_channel(path, save):
    save(path, **ARRAYS, unrelated=np.zeros(3))
    made = load_source("mine", DataOptions(source="npz", path=str(path)))
    np.testing.assert_array_equal(made.x_train, ARRAYS["x_train"][:, None])
    np.testing.assert_array_equal(made.y_test, ARRAYS["y_test"])
    assert made.y_train.dtype == np.int64
    assert made.class_names == ["0", "1", "2"]
    assert (made.name, made.scale, made.pixel_sum) == ("mine", 1 / 255, None)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_colour_images_are_read_in_their_layout(path, layout):
    channels_first = COLOUR.transpose(0, 3, 1, 2)
    np.savez(path, **in_colour(COLOUR if layout == "nhwc" else channels_first))
    made = load_npz("mine", path, layout)
    np.testing.assert_array_equal(made.x_train, channels_first)
    with pytest.raises(InputError, match=r"mine\.npz: x_train has shape .* set data\.layout: n"):
        load_npz("mine", path, "nchw" if layout == "nhwc" else "nhwc")


def test_fortran_order_and_columns_of_labels_are_understood(path):
    arrays = {**ARRAYS, "x_train": np.asfortranarray(ARRAYS["x_train"]), "y_train": ARRAYS["y_train"][:, None]}
    np.savez(path, **arrays)
    made = load_npz("mine", path)
    np.testing.assert_array_equal(made.x_train[:, 0], ARRAYS["x_train"])
    np.testing.assert_array_equal(made.y_train, ARRAYS["y_train"])


BAD = {
    "float": ({**ARRAYS, "x_train": ARRAYS["x_train"] / np.float32(255)}, "x_train is float32 but images must be uint8"),
    "NaN": ({**ARRAYS, "x_test": np.full((4, 6, 5), np.nan)}, "x_test is float64 and holds NaN"),
    "missing": ({"x_train": ARRAYS["x_train"], "x_test": ARRAYS["x_test"]}, "has no array y_train, y_test"),
    "negative": ({**ARRAYS, "y_train": np.arange(9) - 1}, "y_train holds labels from -1 to 7"),
    "huge label": ({**ARRAYS, "y_test": np.arange(4) * 2**40}, "y_test holds labels from 0 to 3298534883328"),
    "lengths": ({**ARRAYS, "y_train": ARRAYS["y_train"][:-1]}, "x_train holds 9 images but y_train 8 labels"),
    "axes": ({**ARRAYS, "x_train": np.zeros((9, 30), np.uint8)}, "x_train has shape (9, 30): give images as [N,H,W]"),
    "scalar": ({**ARRAYS, "x_train": np.uint8(3)}, "x_train has shape ()"),
    "scalar label": ({**ARRAYS, "y_train": 3}, "y_train has shape a single number"),
    "objects": ({**ARRAYS, "y_train": np.array([0, "a", None], object)}, "y_train holds Python objects, which are never"),
    "empty": ({**ARRAYS, "x_train": ARRAYS["x_train"][:0], "y_train": ARRAYS["y_train"][:0]}, "x_train is empty"),
    "one class": ({**ARRAYS, "y_train": np.zeros(9, int)}, "y_train holds one class only"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_npz_is_named(path, case):
    arrays, sentence = BAD[case]
    np.savez(path, allow_pickle=True, **arrays)
    with pytest.raises(InputError, match=re.escape(sentence)) as caught:
        load_npz("mine", path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_nothing_is_ever_unpickled(path):
    np.savez(path, allow_pickle=True, **{**ARRAYS, "y_train": np.array([Bomb()], object)})
    with pytest.raises(InputError, match="never unpickled"):
        load_npz("mine", path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match=r"mine\.npz is not a whole \.npz file"):
        load_npz("mine", path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_truncation_and_a_flipped_bit_are_noticed(path, save):
    save(path, **ARRAYS)
    whole = path.read_bytes()
    for size in range(0, len(whole), 61):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"mine\.npz is not a whole \.npz file"):
            load_npz("mine", path)
    start = whole.index(b"x_train.npy") + 160  # inside the pixels
    path.write_bytes(whole[:start] + bytes([whole[start] ^ 1]) + whole[start + 1 :])
    with pytest.raises(InputError, match=r"mine\.npz"):
        load_npz("mine", path)


@pytest.mark.parametrize("offset", range(0, 900, 7))
def test_no_damaged_byte_raises_anything_else(path, offset):
    """Damage in the archive's structure, headers or data is refused or harmless (a time stamp)."""
    np.savez_compressed(path, **ARRAYS)
    whole = bytearray(path.read_bytes())
    whole[offset * len(whole) // 900] ^= 0x55
    path.write_bytes(whole)
    try:
        made = load_npz("mine", path)
    except InputError:
        return
    np.testing.assert_array_equal(made.x_train[:, 0], ARRAYS["x_train"])


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.npz does not exist"):
        load_npz("mine", tmp_path / "nowhere.npz")
    with pytest.raises(InputError, match="is no file"):
        load_npz("mine", tmp_path)


def member(shape, data=b"", dtype="|u1"):
    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data


def archive(path, x_train, method=zipfile.ZIP_STORED):
    np.savez(path, **{name: array for name, array in ARRAYS.items() if name != "x_train"})
    with zipfile.ZipFile(path, "a", method) as file:
        file.writestr("x_train.npy", x_train)


@pytest.mark.parametrize("shape", [(10**6, 1000, 1000), (2**40, 2**40, 2**40), (10, 6, 5)])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_header_that_claims_more_than_there_is_allocates_nothing(path, shape, method):
    archive(path, member(shape, bytes(100)), method)
    with pytest.raises(InputError, match=r"x_train claims \d+ bytes but holds 100"):
        load_npz("mine", path)


def test_an_array_that_unpacks_to_far_more_than_the_file_is_refused(path, monkeypatch):
    archive(path, member((200, 50, 50), bytes(500_000)), zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="x_train holds 200 images but y_train 9"):  # small: read and judged
        load_npz("mine", path)
    monkeypatch.setattr(files, "SMALL", 100_000)
    with pytest.raises(InputError, match=r"x_train claims 500000 bytes but takes \d+ in the file.*numpy\.savez\."):
        load_npz("mine", path)


@pytest.mark.parametrize(
    "content", [b"", b"not an array", member((9, 6, 5))[:40], b"\x93NUMPY\x09\x00", member((9, -6, 5))]
)
def test_a_member_that_is_no_array_is_named(path, content):
    archive(path, content)
    with pytest.raises(InputError, match=r"mine\.npz.* x_train|mine\.npz is not"):
        load_npz("mine", path)


# Folders of images.


def picture(path, mode="L", size=(6, 5), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "1": (), "LA": (2,), "RGB": (3,), "RGBA": (4,)}[mode]
    values = np.random.default_rng(seed).integers(0, 256, (*size, *channels), dtype=np.uint8)
    Image.fromarray(values > 99 if mode == "1" else values).save(path)
    return values


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        for name in ("zebra", "ant", "bee"):
            picture(tmp_path / "pets" / "train" / name / f"{number}.png", seed=hash_of(name) + number)
    for name in ("zebra", "bee"):
        picture(tmp_path / "pets" / "test" / name / "a.png", seed=hash_of(name))
    return tmp_path / "pets"


def hash_of(name):
    return sum(name.encode())


def test_classes_and_files_are_read_in_the_order_of_their_names(folder):
    picture(folder / "train" / "bee" / "10.PNG", seed=99)
    (folder / "train" / "bee" / "notes.txt").write_text("not an image")
    (folder / "train" / "bee" / ".hidden.png").write_text("not an image")
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "readme.png").write_text("not in a class")
    made = load_source("pets", DataOptions(source="images", path=str(folder)))
    assert made.class_names == ["ant", "bee", "zebra"]
    np.testing.assert_array_equal(made.y_train, [0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(made.y_test, [1, 2])
    assert made.x_train.shape == (10, 1, 6, 5)
    names = ["0.png", "1.png", "10.PNG", "2.png"]
    for i, name in enumerate(names):
        np.testing.assert_array_equal(made.x_train[3 + i, 0], np.asarray(Image.open(folder / "train" / "bee" / name)))
    np.testing.assert_array_equal(made.x_test[1], made.x_train[7])
    assert made.pixel_sum is None


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("LA", 1), ("RGB", 3), ("RGBA", 3)])
def test_one_colour_image_makes_all_colour(folder, mode, channels):
    values = picture(folder / "test" / "bee" / "b.png", mode)
    made = load_images("pets", folder)
    assert made.x_train.shape == (9, channels, 6, 5)
    if mode == "RGB":
        np.testing.assert_array_equal(made.x_test[1], values.transpose(2, 0, 1))
        assert (made.x_train[:, :1] == made.x_train).all()


def test_resized_images_keep_the_sums_of_the_originals(folder):
    values = picture(folder / "train" / "ant" / "big.png", size=(20, 30))
    made = load_source("pets", DataOptions(source="images", path=str(folder), image_size=(6, 5)))
    assert made.x_train.shape == (10, 1, 6, 5)
    assert made.pixel_sum[3] == values.sum(dtype=int)
    np.testing.assert_array_equal(made.pixel_sum[:3], made.x_train[:3].sum((1, 2, 3), dtype=int))
    expected = Image.fromarray(values).resize((5, 6), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(made.x_train[3, 0], np.asarray(expected))
    assert "resized to 6 x 5" in made.source


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: picture(f / "train" / "ant" / "big.png", size=(7, 5)), "big.png is 7 x 5 (height x width) but "),
        (lambda f: picture(f / "test" / "cat" / "0.png"), "test/cat has no folder of that class in"),
        (lambda f: (f / "train" / "ant" / "x.jpg").write_text("no image"), "train/ant/x.jpg cannot be decoded"),
        (lambda f: (f / "train" / "cat").mkdir(), "train/cat holds no images"),
        (lambda f: (f / "test").rename(f / "tset"), "test does not exist"),
        (lambda f: (f / "train").rename(f.parent / "gone"), "train does not exist"),
        (lambda f: Image.new("I;16", (5, 6)).save(f / "test" / "bee" / "deep.png"), "deep.png has more than 8 bits"),
        (lambda f: Image.new("F", (5, 6)).save(f / "test" / "bee" / "deep.tif"), "deep.tif has more than 8 bits"),
    ],
)
def test_a_bad_folder_is_named(folder, change, sentence):
    change(folder)
    with pytest.raises(InputError, match=re.escape(sentence)) as caught:
        load_images("pets", folder)
    assert "\n" not in str(caught.value)


def test_a_folder_without_classes_is_named(tmp_path):
    picture(tmp_path / "train" / "0.png")
    with pytest.raises(InputError, match="train holds no class folders"):
        load_images("pets", tmp_path)


def test_one_class_is_refused(tmp_path):
    picture(tmp_path / "train" / "ant" / "0.png")
    picture(tmp_path / "test" / "ant" / "0.png")
    with pytest.raises(InputError, match="one class only"):
        load_images("pets", tmp_path)


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "ppm", "gif", "tif", "webp"])
def test_truncated_images_are_named(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    picture(path, "RGB", (40, 40))
    images, sums = decode([path], None)
    assert images.shape == (1, 3, 40, 40)
    assert sums[0] == images.sum(dtype=int)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"x\.{kind} cannot be decoded"):
        decode([path], None)
