"""MNIST, Fashion-MNIST, CIFAR-10 and GTSRB, from <root>/<name>.npz or through torchvision.

Images come in the order in which torchvision indexes them. MNIST and CIFAR-10 are checked by the SHA-256 of
their arrays, whichever way they came, so that a partition is that of the published data or none.
"""

import pickle
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mithridate.data.dataset import Dataset, sha256, validate
from mithridate.data.files import SCALE, decode, read_npz
from mithridate.errors import InputError
from mithridate.torchvision_shim import import_torchvision

DOWNLOADS = "downloads"
TIMEOUT = 60  # seconds without an answer from a download server
GTSRB_SIZE, GTSRB_CLASSES = (48, 48), 43

# SHA-256 of the whole data set, as `dataset.sha256` computes it. Fashion-MNIST has no known one here.
KNOWN = {
    "mnist": "bef1760c367fbd790f74747953dbdca416db515e94dd8222409622aa929ff885",
    "cifar10": "a8fadabc71145dfa2dd7f9eaaf19e1f7adb3e361b6f0cd78aa9edd6b8474311c",
}
CLASS_NAMES = {
    "mnist": [str(digit) for digit in range(10)],
    "fashion_mnist": [
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ],
    "cifar10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    "gtsrb": [str(sign) for sign in range(GTSRB_CLASSES)],
}
TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "gtsrb": "GTSRB"}
LAYOUT = {
    "mnist": "MNIST/raw/",
    "fashion_mnist": "FashionMNIST/raw/",
    "cifar10": "cifar-10-batches-py/",
    "gtsrb": "gtsrb/",
}

# What torchvision raises for files that are missing, damaged or refused by the server.
UNREADABLE = (RuntimeError, OSError, ValueError, AssertionError, KeyError, EOFError, pickle.UnpicklingError)


def load_vision(name: str, root: str | None, image_size: tuple[int, int] | None = None) -> Dataset:
    """The data set `name`: a key of TORCHVISION.

    root: a folder that holds it as <name>.npz (not gtsrb) or in torchvision's layout; None: torchvision
    downloads it to downloads/. image_size (height, width) is that of GTSRB alone. Raises InputError where the
    data is missing, is not the published one, or cannot be downloaded.
    """
    if root is not None and not Path(root).is_dir():
        raise InputError(f"data.root: {root} is no folder: correct it, or set data.root: null to download.")
    if name == "gtsrb":
        return _gtsrb(root, image_size or GTSRB_SIZE)
    npz = None if root is None else Path(root) / f"{name}.npz"
    if npz is not None and npz.is_file():
        arrays, where, origin = read_npz(npz), npz, npz.name
    else:
        train, test = _split(name, root, train=True), _split(name, root, train=False)
        arrays = {"x_train": _pixels(train), "y_train": np.asarray(train.targets)}
        arrays |= {"x_test": _pixels(test), "y_test": np.asarray(test.targets)}
        where, origin = Path(root or DOWNLOADS) / LAYOUT[name], f"torchvision {TORCHVISION[name]}"
    checked = "SHA-256 of the arrays checked" if name in KNOWN else "not checked, no SHA-256 of the arrays is known"
    dataset = Dataset(
        **arrays,
        pixel_sum=None,
        scale=SCALE,
        name=name,
        source=f"{origin} ({checked})",
        class_names=CLASS_NAMES[name],
    )
    dataset = validate(dataset, where)
    if name in KNOWN and sha256(dataset) != KNOWN[name]:
        raise InputError(
            f"{where} is not the published {name} in its published order (SHA-256 of its arrays): replace or"
            " delete it, set data.root: null to download, or use it under a name of its own with"
            " data.source: npz."
        )
    return dataset


def _gtsrb(root: str | None, size: tuple[int, int]) -> Dataset:
    """Images of 15 x 15 to 250 x 250 pixels, resized; pixel_sum is that of the original ones (specified by
    DPA)."""
    base = Path(root or DOWNLOADS) / LAYOUT["gtsrb"]
    train, test = _split("gtsrb", root, split="train"), _split("gtsrb", root, split="test")
    folders = sorted(entry.name for entry in (base / "GTSRB" / "Training").iterdir() if entry.is_dir())
    expected = [f"{sign:05}" for sign in range(GTSRB_CLASSES)]
    if folders != expected:  # torchvision numbers whatever folders there are
        raise InputError(f"{base / 'GTSRB' / 'Training'} must hold the folders 00000 to 00042: unpack GTSRB again.")
    # torchvision's public way to an image does not tell which file it is.
    (x_train, sums), (x_test, _) = (decode([path for path, _ in part._samples], size, 3) for part in (train, test))
    y_train, y_test = (np.array([label for _, label in part._samples], np.int64) for part in (train, test))
    source = f"torchvision GTSRB, resized to {size[0]} x {size[1]} (bilinear); pixel_sum of the original images"
    dataset = Dataset(x_train, y_train, x_test, y_test, sums, SCALE, "gtsrb", source, CLASS_NAMES["gtsrb"])
    return validate(dataset, base)


def _split(name: str, root: str | None, **split: Any) -> Any:
    """One of torchvision's data set objects, downloaded where root is None."""
    kind = getattr(import_torchvision().datasets, TORCHVISION[name])
    folder = Path(root or DOWNLOADS)
    try:
        with _timeout():
            return kind(folder, download=root is None, **split)
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        reason = reason.removesuffix(" You can use download=True to download it")
        if root is None:
            raise InputError(
                f"{name} could not be downloaded to {folder}/ ({reason}): mend the network, or set data.root"
                f" to a folder that holds it; where {folder / LAYOUT[name]} is incomplete, delete it."
            ) from error
        npz = "" if name == "gtsrb" else f"{folder / name}.npz or "
        raise InputError(
            f"{name} was looked for as {npz}{folder / LAYOUT[name]} in torchvision's layout, and that is"
            f" missing or damaged ({reason}): put it there, or set data.root: null to download it."
        ) from error


def _pixels(part: Any) -> np.ndarray:
    """uint8 [N,C,H,W]."""
    x = np.asarray(part.data)
    return x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)


@contextmanager
def _timeout() -> Iterator[None]:
    """torchvision sets no time limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
