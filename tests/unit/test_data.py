"""Data sets: what is refused and how, the artefact, and the built-in sources."""

import hashlib
import re
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from sklearn.datasets import load_digits

from mithridate.data import dataset as data
from mithridate.data.checks import MAX_CLASSES, class_numbers, image_sums
from mithridate.data.dataset import Dataset, validate
from mithridate.data.digits import digits, digits28
from mithridate.data.partition import buckets
from mithridate.data.sources import load_source
from mithridate.errors import InputError
from mithridate.options.data import DataOptions
from tests.unit.making import edited


def small(**changes) -> Dataset:
    random = np.random.default_rng(0)
    made = Dataset(
        x_train=random.integers(0, 256, (12, 1, 4, 5), dtype=np.uint8),
        y_train=np.arange(12) % 3,
        x_test=random.integers(0, 256, (6, 1, 4, 5), dtype=np.uint8),
        y_test=np.arange(6) % 3,
        pixel_sum=None,
        scale=1 / 255,
        name="small",
        source="made up",
        class_names=["a", "b", "c"],
    )
    return replace(made, **changes)


BAD = {
    "one class": ({"y_train": np.ones(12, int)}, "y_train holds one class only (1)"),
    "negative label": ({"y_train": np.arange(12) % 3 - 1}, "y_train holds labels from -1 to 1, allowed are 0 to 2"),
    "label too large": ({"y_test": np.arange(6)}, "y_test holds labels from 0 to 5, allowed are 0 to 2"),
    "label beyond int64": ({"y_train": np.full(12, 2**63, np.uint64)}, "y_train holds labels from 9223372036854775808"),
    "float labels": ({"y_train": np.arange(12) % 3 / 1.0}, "y_train is float64 but labels must be whole numbers"),
    "text labels": ({"y_test": np.array(list("abcabc"))}, "y_test is <U1 but labels must be whole numbers"),
    "one-hot labels": ({"y_train": np.eye(12, 3, dtype=int)}, "y_train has shape 12 x 3"),
    "float images": ({"x_train": np.zeros((12, 1, 4, 5), np.float32)}, "x_train is float32 but images must be uint8"),
    "NaN images": ({"x_test": np.full((6, 1, 4, 5), np.nan)}, "x_test is float64 and holds NaN but images must be uint8"),
    "int64 images": ({"x_train": np.zeros((12, 1, 4, 5), int)}, "x_train is int64 but images must be uint8: save"),
    "too few labels": ({"y_train": np.arange(11) % 3}, "x_train holds 12 images but y_train 11 labels"),
    "other test shape": ({"x_test": np.zeros((6, 3, 4, 5), np.uint8)}, "x_train are 1 x 4 x 5 but those of x_test 3 x 4 x 5"),
    "no training images": ({"x_train": np.zeros((0, 1, 4, 5), np.uint8), "y_train": np.zeros(0, int)}, "x_train is empty"),
    "no test images": ({"x_test": np.zeros((0, 1, 4, 5), np.uint8), "y_test": np.zeros(0, int)}, "x_test is empty"),
    "images without pixels": ({"x_train": np.zeros((12, 1, 0, 5), np.uint8)}, "x_train is empty, 12 x 1 x 0 x 5"),
    "no channel axis": ({"x_train": np.zeros((12, 4, 5), np.uint8)}, "x_train has 3 axes"),
    "wrong sums": ({"pixel_sum": np.zeros(11, int)}, "pixel_sum is int64 11"),
    "huge class names": ({"class_names": ["x" * 30_000] * 3}, "class names"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_one_sentence_with_the_array_and_the_remedy(case):
    changes, sentence = BAD[case]
    with pytest.raises(InputError, match=re.escape(sentence)) as caught:
        validate(small(**changes), "mine.npz")
    message = str(caught.value)
    assert message.startswith("mine.npz")
    assert "\n" not in message
    assert re.search(r": (give|save|number|shorten)", message)


def test_a_test_label_that_never_occurs_in_training_is_allowed():
    checked = validate(small(y_train=np.arange(12) % 2))
    assert checked.num_classes == 3


def test_validation_makes_labels_int64_and_images_contiguous():
    made = small(y_train=(np.arange(12) % 3).astype(np.uint8))
    turned = replace(made, x_train=made.x_train.transpose(0, 1, 3, 2).copy().transpose(0, 1, 3, 2))
    checked = validate(turned)
    assert checked.y_train.dtype == np.int64
    assert checked.x_train.flags.c_contiguous
    assert data.sha256(checked) == data.sha256(validate(made)) == data.sha256(small())


def test_pixel_sums_that_are_the_images_own_are_dropped():
    made = small()
    own = image_sums(made.x_train)
    np.testing.assert_array_equal(own, made.x_train.astype(int).sum((1, 2, 3)))
    assert validate(replace(made, pixel_sum=own)).pixel_sum is None
    np.testing.assert_array_equal(validate(replace(made, pixel_sum=own + 1)).pixel_sum, own + 1)


def test_image_sums_are_the_same_in_pieces(monkeypatch):
    images = np.full((7, 3, 30, 30), 255, np.uint8)
    whole = image_sums(images)
    monkeypatch.setattr("mithridate.data.checks.CHUNK_BYTES", 5000)
    np.testing.assert_array_equal(image_sums(images), whole)
    assert (whole == 3 * 900 * 255).all()


@pytest.mark.parametrize("name", ["x_train", "y_train", "x_test", "y_test", "pixel_sum"])
def test_the_checksum_sees_every_array(name):
    made = validate(small(pixel_sum=np.arange(12)))
    changed = getattr(made, name).copy()
    changed.reshape(-1)[3] += 1
    assert data.sha256(replace(made, **{name: changed})) != data.sha256(made)


def test_the_checksum_sees_shapes_and_types():
    made = validate(small())
    hashes = {
        data.sha256(changed)
        for changed in (
            made,
            replace(made, x_train=made.x_train.reshape(12, 1, 5, 4)),
            replace(made, y_test=made.y_test.view(np.uint64)),
            replace(made, pixel_sum=np.zeros(12, np.int64)),
        )
    }
    assert len(hashes) == 4
    assert data.sha256(replace(made, y_test=made.y_test.astype(">i8"))) == data.sha256(made)


def test_an_artefact_holds_what_was_saved(tmp_path):
    made, path = small(pixel_sum=np.arange(12)), tmp_path / "clean.h5"
    data.save(path, made, 0.25, 7, {"commit": "abc"})
    loaded = data.load(path)
    for name in ("x_train", "y_train", "x_test", "y_test", "pixel_sum"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(made, name))
        assert getattr(loaded, name).dtype == (np.uint8 if name.startswith("x") else np.int64)
    assert (loaded.name, loaded.source, loaded.scale, loaded.class_names) == (
        "small",
        "made up",
        1 / 255,
        ["a", "b", "c"],
    )
    assert isinstance(loaded.x_train, np.memmap)
    assert not loaded.x_train.flags.writeable

    header = data.load_header(path)
    assert header.shape == (1, 4, 5)
    assert (header.n_train, header.n_test, header.num_classes, header.attack) == (12, 6, 3, "")
    assert header.sha256 == data.sha256(made)
    np.testing.assert_array_equal(data.load_labels(path, "test"), made.y_test)
    images, labels = data.load_test(path)
    np.testing.assert_array_equal(images, made.x_test)
    np.testing.assert_array_equal(labels, made.y_test)
    np.testing.assert_array_equal(data.load_sums(path), made.pixel_sum)
    assert len(data.load_val_index(path)) == 3
    with h5py.File(path) as file:
        assert file.attrs["num_classes"] == 3
        assert file["provenance"].attrs["commit"] == "abc"


def test_no_pixel_sums_are_stored_where_they_say_nothing(tmp_path):
    data.save(tmp_path / "a.h5", small(), 0.1, 0, {})
    assert data.load_sums(tmp_path / "a.h5") is None
    with h5py.File(tmp_path / "a.h5") as file:
        assert "pixel_sum" not in file


def test_equal_data_sets_give_equal_artefacts(tmp_path):
    for name in ("a.h5", "b.h5"):
        data.save(tmp_path / name, small(), 0.5, 1, {})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_damaged_artefact_is_named(tmp_path):
    path = tmp_path / "clean.h5"
    data.save(path, small(), 0.1, 0, {})
    with edited(path) as file:
        file["x_test"][0, 0, 0, 0] ^= 1
    with pytest.raises(InputError, match=r"clean\.h5 differs from the SHA-256 it carries"):
        data.load(path)
    with edited(path) as file:
        del file.attrs["class_names"]
    with pytest.raises(InputError, match="is no data set of this workflow"):
        data.load_header(path)


def test_nothing_is_written_for_bad_data(tmp_path):
    with pytest.raises(InputError):
        data.save(tmp_path / "a.h5", small(y_train=np.zeros(12, int)), 0.1, 0, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("n", "fraction", "size"), [(1437, 0.1, 144), (12, 0.25, 3), (10, 0, 0), (2, 0.9, 1)])
def test_val_index_is_sorted_and_of_the_share(n, fraction, size):
    index = data.draw_val_index(n, fraction, 0)
    assert index.dtype == np.int64
    assert len(index) == size
    assert (np.diff(index) > 0).all()
    assert not len(index) or (index[0] >= 0 and index[-1] < n)


def test_val_index_follows_from_the_seed_by_raw_bits_alone():
    key = int.from_bytes(hashlib.sha256(b"mithridate/val_index/5").digest()[:16], "little")
    words = np.random.Philox(key=key).random_raw(100)
    np.testing.assert_array_equal(data.draw_val_index(100, 0.2, 5), np.sort(np.argsort(words, kind="stable")[:20]))
    assert not np.array_equal(data.draw_val_index(100, 0.2, 5), data.draw_val_index(100, 0.2, 6))
    np.testing.assert_array_equal(data.draw_val_index(40, 0.15, 0), [0, 1, 9, 27, 34, 37])


def test_digits_are_kept_as_shipped():
    made, bunch = digits(), load_digits()
    assert made.x_train.shape == (1437, 1, 8, 8)
    assert made.x_test.shape == (360, 1, 8, 8)
    assert made.x_train.dtype == np.uint8
    assert made.x_train.max() == 16
    np.testing.assert_array_equal(np.concatenate([made.x_train, made.x_test])[:, 0], bunch.images)
    np.testing.assert_array_equal(np.concatenate([made.y_train, made.y_test]), bunch.target)
    assert made.scale == 1 / 16
    assert made.num_classes == 10


def test_digits_leave_no_partition_empty():
    made = digits()
    assert len(np.unique(buckets(made.x_train, 50))) == 50
    assert len(np.unique(buckets(made.x_train * np.uint8(15), 50))) < 50  # stretched to 0..240 they would


def test_enlarged_digits_are_hashed_at_their_original_size():
    made, original = validate(digits28()), digits()
    assert made.x_train.shape == (1437, 1, 28, 28)
    np.testing.assert_array_equal(made.x_train[:, :, 2:26:3, 2:26:3], original.x_train)
    np.testing.assert_array_equal(made.x_test[:, :, 4:26:3, 4:26:3], original.x_test)
    np.testing.assert_array_equal(image_sums(made.x_train), 9 * image_sums(original.x_train))
    np.testing.assert_array_equal(made.pixel_sum, image_sums(original.x_train))
    np.testing.assert_array_equal(buckets(made.x_train, 60, made.pixel_sum), buckets(original.x_train, 60))
    assert len(np.unique(buckets(made.x_train, 60))) == 20  # what the sums of the enlarged ones would reach


def test_every_built_in_name_is_known():
    assert load_source("digits", DataOptions()).name == "digits"
    assert load_source("digits28", DataOptions()).pixel_sum is not None
    with pytest.raises(InputError, match="'imagenet' is not one of digits, "):
        load_source("imagenet", DataOptions())
    with pytest.raises(InputError, match=r"data\.path is not set"):
        load_source("mine", DataOptions(source="npz"))


def test_digits_do_without_torch():
    code = (
        "import sys; from mithridate.data.sources import load_source; from mithridate.options.data import DataOptions;"
        "load_source('digits', DataOptions()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_class_numbers_cannot_exhaust_memory():
    assert class_numbers(np.array([0, 2, 1])) == ["0", "1", "2"]
    assert len(class_numbers(np.array([2**62]))) == MAX_CLASSES
