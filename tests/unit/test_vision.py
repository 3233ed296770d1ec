"""Data sets that torchvision knows: from an .npz file, from torchvision's own layout, downloaded."""

import importlib
import pickle
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from mithridate.data import vision
from mithridate.data.sources import load_source
from mithridate.errors import InputError
from mithridate.options.data import DataOptions
from mithridate.torchvision_shim import import_torchvision


def test_torchvision_is_imported_once_and_works():
    module = import_torchvision()
    assert import_torchvision() is module
    assert sys.modules["torchvision"] is module
    assert hasattr(module.datasets, "GTSRB")
    assert hasattr(importlib.import_module("torchvision.transforms.v2"), "Resize")


def test_other_failures_of_torchvision_are_not_hidden(monkeypatch):
    def fail(name):
        raise RuntimeError("something else")

    monkeypatch.setattr("mithridate.torchvision_shim.importlib.import_module", fail)
    with pytest.raises(RuntimeError, match="something else"):
        import_torchvision()


def keras_npz(path, shape=(28, 28), labels=(-1,), **changes):
    random = np.random.default_rng(1)
    arrays = {
        "x_train": random.integers(0, 256, (20, *shape), dtype=np.uint8),
        "y_train": (np.arange(20) % 10).astype(np.uint8).reshape(labels),
        "x_test": random.integers(0, 256, (10, *shape), dtype=np.uint8),
        "y_test": np.arange(10, dtype=np.uint8).reshape(labels),
    }
    np.savez(path, **{**arrays, **changes})


@pytest.mark.parametrize(("name", "shape", "labels"), [("mnist", (28, 28), (-1,)), ("cifar10", (32, 32, 3), (-1, 1))])
def test_a_published_set_with_other_content_is_refused(tmp_path, monkeypatch, name, shape, labels):
    keras_npz(tmp_path / f"{name}.npz", shape, labels)
    with pytest.raises(InputError, match=rf"{name}\.npz is not the published {name}.*data\.source: npz"):
        vision.load_vision(name, str(tmp_path))
    monkeypatch.delitem(vision.KNOWN, name)
    made = vision.load_vision(name, str(tmp_path))
    assert made.x_train.shape == (20, *((1, 28, 28) if name == "mnist" else (3, 32, 32)))
    assert made.y_train.shape == (20,)
    assert "not checked" in made.source


def test_fashion_mnist_says_that_it_is_not_checked(tmp_path):
    keras_npz(tmp_path / "fashion_mnist.npz")
    made = load_source("fashion_mnist", DataOptions(root=str(tmp_path)))
    assert "not checked" in made.source
    assert made.class_names[0] == "T-shirt/top"
    assert made.num_classes == 10


@pytest.mark.parametrize(
    ("name", "places"), [("mnist", "MNIST/raw"), ("cifar10", "cifar-10-batches-py"), ("gtsrb", "gtsrb")]
)
def test_missing_data_names_where_it_was_looked_for(tmp_path, name, places):
    with pytest.raises(InputError) as caught:
        vision.load_vision(name, str(tmp_path))
    message = str(caught.value)
    assert str(tmp_path / places) in message
    assert (f"{tmp_path / name}.npz" in message) == (name != "gtsrb")
    assert "data.root: null" in message
    assert not list(tmp_path.iterdir())


def test_a_root_that_is_no_folder_is_named():
    with pytest.raises(InputError, match=r"data\.root: /nowhere is no folder"):
        vision.load_vision("mnist", "/nowhere")


@pytest.mark.parametrize("name", vision.TORCHVISION)
def test_a_failed_download_names_the_remedy(tmp_path, monkeypatch, name):
    def refuse(*arguments, **more):
        raise OSError("no network here")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(InputError, match=f"{name} could not be downloaded to downloads/ .*no network here.*data.root"):
        vision.load_vision(name, None)


def idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(header + array.tobytes())


def test_torchvisions_raw_layout_is_read_and_checked(tmp_path, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    x = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    y = (np.arange(20) % 10).astype(np.uint8)
    for part in ("train", "t10k"):
        idx(raw / f"{part}-images-idx3-ubyte", x)
        idx(raw / f"{part}-labels-idx1-ubyte", y)
    with pytest.raises(InputError, match=r"MNIST/raw is not the published mnist"):
        vision.load_vision("mnist", str(tmp_path))
    monkeypatch.delitem(vision.KNOWN, "mnist")
    made = vision.load_vision("mnist", str(tmp_path))
    np.testing.assert_array_equal(made.x_train[:, 0], x)
    np.testing.assert_array_equal(made.y_test, y)
    file = raw / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="missing or damaged"):
        vision.load_vision("mnist", str(tmp_path))


def test_torchvisions_cifar10_is_read_and_checked(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    x = np.random.default_rng(0).integers(0, 256, (10, 3, 32, 32), dtype=np.uint8)
    batch = {"data": x.reshape(10, -1), "labels": list(range(10))}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    with pytest.raises(InputError, match="missing or damaged"):  # torchvision's own checksums
        vision.load_vision("cifar10", str(tmp_path))
    module = import_torchvision().datasets.cifar
    monkeypatch.setattr(module, "check_integrity", lambda *arguments: True)
    with pytest.raises(InputError, match="cifar-10-batches-py is not the published cifar10"):
        vision.load_vision("cifar10", str(tmp_path))
    monkeypatch.delitem(vision.KNOWN, "cifar10")
    made = vision.load_vision("cifar10", str(tmp_path))
    np.testing.assert_array_equal(made.x_train, np.concatenate([x] * 5))
    np.testing.assert_array_equal(made.y_test, np.arange(10))
    assert made.class_names[0] == "airplane"


@pytest.fixture
def gtsrb(tmp_path):
    """Two training images of each sign, of different sizes, in torchvision's layout."""
    random = np.random.default_rng(0)
    base, images = tmp_path / "gtsrb", {}
    (base / "GTSRB" / "Final_Test" / "Images").mkdir(parents=True)
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for sign in range(43):
        folder = base / "GTSRB" / "Training" / f"{sign:05}"
        folder.mkdir(parents=True)
        for i in range(2):
            images[sign, i] = random.integers(0, 256, (15 + sign, 20 + i, 3), dtype=np.uint8)
            Image.fromarray(images[sign, i]).save(folder / f"0000{i}.ppm")
        Image.fromarray(images[sign, 0]).save(base / "GTSRB" / "Final_Test" / "Images" / f"{sign:05}.ppm")
        rows.append(f"{sign:05}.ppm;20;{15 + sign};0;0;0;0;{42 - sign}")
    (base / "GT-final_test.csv").write_text("\n".join(rows) + "\n")
    return tmp_path, images


def test_gtsrb_is_resized_and_hashed_at_its_original_size(gtsrb):
    root, images = gtsrb
    made = load_source("gtsrb", DataOptions(root=str(root)))
    assert made.x_train.shape == (86, 3, 48, 48)
    np.testing.assert_array_equal(made.y_train, np.arange(86) // 2)
    np.testing.assert_array_equal(made.y_test, 42 - np.arange(43))
    assert made.class_names == [str(sign) for sign in range(43)]
    np.testing.assert_array_equal(made.pixel_sum, [images[i // 2, i % 2].sum(dtype=int) for i in range(86)])
    expected = Image.fromarray(images[7, 1]).resize((48, 48), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(made.x_train[15], np.asarray(expected).transpose(2, 0, 1))
    assert load_source("gtsrb", DataOptions(root=str(root), image_size=(30, 20))).x_train.shape[2:] == (30, 20)


def test_incomplete_gtsrb_is_refused(gtsrb):
    root, _ = gtsrb
    training = root / "gtsrb" / "GTSRB" / "Training"
    shutil.rmtree(training / "00005")
    with pytest.raises(InputError, match="must hold the folders 00000 to 00042"):
        vision.load_vision("gtsrb", str(root))


def test_a_damaged_gtsrb_image_is_named(gtsrb):
    root, _ = gtsrb
    file = root / "gtsrb" / "GTSRB" / "Training" / "00003" / "00001.ppm"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"00003/00001\.ppm cannot be decoded"):
        vision.load_vision("gtsrb", str(root))
