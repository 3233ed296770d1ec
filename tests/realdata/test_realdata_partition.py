"""The partitions of the published data: index lists as in the papers' code, bit for bit."""

import hashlib

import numpy as np
import pytest

from mithridate.data.dataset import load_images, load_labels, save, sha256
from mithridate.data.partition import make_subsets, partition_indices
from mithridate.data.vision import load_vision

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def cifar10(real_data):
    return load_vision("cifar10", str(real_data))


@pytest.fixture(scope="module")
def mnist(real_data):
    return load_vision("mnist", str(real_data))


def lists_hash(indices):
    return hashlib.sha256(np.concatenate(indices).astype("<i8").tobytes()).hexdigest()


def test_cifar10_in_fifty_partitions(cifar10):
    made = make_subsets(cifar10.x_train, cifar10.y_train, 50, scale=cifar10.scale)
    assert (made.sizes.min(), made.sizes.mean(), made.sizes.max()) == (891, 1000, 1099)
    assert lists_hash(made.indices) == "5b6d032ea439128bf2fe147268b9d22b23b29f6832f87e718d16abaaf71397e3"
    assert made.indices[0][:8].tolist() == [134, 735, 49410, 23215, 18335, 29684, 26020, 30033]
    np.testing.assert_allclose(made.mean[0], [0.492195, 0.481377, 0.445186], atol=3e-6)
    np.testing.assert_allclose(made.std[0], [0.247422, 0.244828, 0.261441], atol=1e-6)
    first = cifar10.x_train[made.indices[0]] / 255
    np.testing.assert_allclose(made.mean[0], first.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(made.std[0], first.std((0, 2, 3), ddof=1), rtol=1e-12)


def test_mnist_in_1200_partitions(mnist):
    indices = partition_indices(mnist.x_train, mnist.y_train, 1200)
    sizes = [len(rows) for rows in indices]
    assert (min(sizes), np.mean(sizes), max(sizes)) == (25, 50, 81)
    assert lists_hash(indices) == "9632e2ce9c775cfccc40a01971fe79b04c3ee1d505b8b27e949970dfc4133b3f"


def test_shuffled_files_give_the_same_partitions(cifar10):
    shuffle = np.random.default_rng(0).permutation(len(cifar10.y_train))
    one = make_subsets(cifar10.x_train, cifar10.y_train, 50, scale=cifar10.scale)
    other = make_subsets(cifar10.x_train[shuffle], cifar10.y_train[shuffle], 50, scale=cifar10.scale)
    for rows, shuffled in zip(one.indices, other.indices, strict=True):
        np.testing.assert_array_equal(cifar10.x_train[rows], cifar10.x_train[shuffle[shuffled]])
        np.testing.assert_array_equal(cifar10.y_train[rows], cifar10.y_train[shuffle[shuffled]])
    assert one.mean.tobytes() == other.mean.tobytes()
    assert one.std.tobytes() == other.std.tobytes()


def test_torchvisions_layout_and_npz_are_the_same_mnist(mnist, real_data, tmp_path):
    (tmp_path / "MNIST").symlink_to((real_data / "MNIST").resolve())
    raw = load_vision("mnist", str(tmp_path))
    assert sha256(raw) == sha256(mnist)
    assert raw.source == "torchvision MNIST (SHA-256 of the arrays checked)"
    assert raw.class_names == mnist.class_names


def test_memory_mapped_images_give_the_same_partitions(mnist, tmp_path):
    save(tmp_path / "clean.h5", mnist, 0.1, 0, {})
    images, labels = load_images(tmp_path / "clean.h5", "train"), load_labels(tmp_path / "clean.h5", "train")
    assert isinstance(images, np.memmap)
    indices = partition_indices(images, labels, 1200)
    assert lists_hash(indices) == "9632e2ce9c775cfccc40a01971fe79b04c3ee1d505b8b27e949970dfc4133b3f"
