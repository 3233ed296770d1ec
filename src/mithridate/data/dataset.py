"""A data set in memory, its checks, and its HDF5 artefact `results/{dataset}/data/{variant}.h5`.

Images are uint8 [N,C,H,W] in the order in which the data set was published; `scale` takes a pixel to [0, 1].
The artefact's arrays: x_train, y_train, val_index, x_test, y_test, and pixel_sum where the hash of DPA
(Levine & Feizi 2021) is that of another image than the stored one (resized data: the original).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mithridate import artefacts
from mithridate.data.checks import check_images, check_labels, informative_sums, shape_text
from mithridate.errors import InputError
from mithridate.streams import Stream

Split = Literal["train", "test"]

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
PIXEL_SUM = "pixel_sum"
NAMES_BYTES = 60_000  # an HDF5 attribute holds 64 kB


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images uint8 [N,C,H,W], labels int64 [N] in 0..num_classes-1; pixel_sum int64 [N] of the training
    images at their original size, None where it is the sum of x_train's own pixels; val_index int64, sorted
    positions of the training images that the data set's own source holds out, None where they are to be drawn
    (what an artefact holds out is read by `load_val_index`)."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    pixel_sum: np.ndarray | None
    scale: float
    name: str
    source: str
    class_names: list[str]
    val_index: np.ndarray | None = None

    @property
    def num_classes(self) -> int:
        """Every class that has a name, whether or not it occurs among the images."""
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.x_train.shape
        return channels, height, width


@dataclass(frozen=True)
class Header:
    """What the artefact says about itself; shape is (channels, height, width)."""

    name: str
    source: str
    sha256: str
    scale: float
    class_names: list[str]
    attack: str
    shape: tuple[int, int, int]
    n_train: int
    n_test: int

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


def validate(dataset: Dataset, where: str | Path | None = None) -> Dataset:
    """The data set with labels as int64, contiguous images, and pixel_sum only where it says something.

    `where` (default: the data set's name) is the file or folder that messages name. A test label that never
    occurs in the training set is allowed: no base classifier learns it, so such images count as errors and
    nothing that is certified becomes wrong. Raises InputError otherwise.
    """
    where = where or dataset.name
    arrays = {name: np.asarray(getattr(dataset, name)) for name in ARRAYS}
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        check_images(f"{where}: x_{split}", x)
        check_labels(f"{where}: y_{split}", y, dataset.num_classes)
        if len(x) != len(y):
            raise InputError(
                f"{where}: x_{split} holds {len(x)} images but y_{split} {len(y)} labels: give one label per image."
            )
    train, test = arrays["x_train"].shape[1:], arrays["x_test"].shape[1:]
    if train != test:
        raise InputError(
            f"{where}: images of x_train are {shape_text(train)} but those of x_test {shape_text(test)}"
            " (channels, height, width): give both the same shape."
        )
    if (arrays["y_train"] == arrays["y_train"][0]).all():
        raise InputError(
            f"{where}: y_train holds one class only ({arrays['y_train'][0]}): give training images of at"
            " least two classes."
        )
    if len(json.dumps(dataset.class_names)) > NAMES_BYTES:
        raise InputError(f"{where}: the class names take more than {NAMES_BYTES} characters together: shorten them.")
    x_train = np.ascontiguousarray(arrays["x_train"])
    return replace(
        dataset,
        x_train=x_train,
        y_train=arrays["y_train"].astype(np.int64),
        x_test=np.ascontiguousarray(arrays["x_test"]),
        y_test=arrays["y_test"].astype(np.int64),
        pixel_sum=informative_sums(str(where), dataset.pixel_sum, x_train),
    )


def sha256(dataset: Dataset, x_train: Iterable[np.ndarray] | None = None) -> str:
    """SHA-256 over names, types, shapes and contents of the arrays, in a fixed order; val_index, a choice among
    the training images, is no part of it. x_train: its rows in pieces, one after another, where they are not
    those in `dataset`."""
    digest = hashlib.sha256()
    for name in (*ARRAYS, PIXEL_SUM):
        array = getattr(dataset, name)
        if array is None:
            continue
        kind = array.dtype.newbyteorder("<")
        digest.update(f"{name} {kind.str} {list(array.shape)}\n".encode())
        for piece in x_train if name == "x_train" and x_train is not None else [array]:
            digest.update(np.ascontiguousarray(piece, kind).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def draw_val_index(n: int, fraction: float, seed: int) -> np.ndarray:
    """Sorted positions (int64) of the held-out share of n samples: the nearest whole number, never all."""
    size = min(int(n * fraction + 0.5), n - 1)
    return np.sort(Stream("mithridate", "val_index", seed).permutations(1, n)[0, :size]).astype(np.int64)


def save(path: str | Path, dataset: Dataset, val_fraction: float, seed: int, provenance: Mapping[str, Any]) -> None:
    """Write a clean data set, with its own val_index or else one that is drawn. Raises InputError where the data is
    bad or cannot be written."""
    dataset = validate(dataset)
    arrays = {name: getattr(dataset, name) for name in ARRAYS}
    val_index = dataset.val_index
    arrays["val_index"] = draw_val_index(len(dataset.y_train), val_fraction, seed) if val_index is None else val_index
    if dataset.pixel_sum is not None:
        arrays[PIXEL_SUM] = dataset.pixel_sum
    artefacts.write_hdf5(path, arrays, describe(dataset, sha256(dataset)), provenance)


def describe(dataset: Dataset, sha256: str, attack: str = "") -> dict[str, Any]:
    """The attributes of an artefact made of a data set; attack: the attack's options as JSON, empty for none."""
    return {
        "dataset": dataset.name,
        "source": dataset.source,
        "sha256": sha256,
        "scale": dataset.scale,
        "num_classes": dataset.num_classes,
        "class_names": dataset.class_names,
        "attack": attack,
    }


def load(path: str | Path) -> Dataset:
    """The data set of an artefact, images memory-mapped, checked against the SHA-256 it carries.

    Raises InputError for a missing, foreign or damaged file.
    """
    header = load_header(path)
    x_train, x_test = load_images(path, "train"), load_images(path, "test")
    y_train, y_test = load_labels(path, "train"), load_labels(path, "test")
    dataset = Dataset(
        x_train,
        y_train,
        x_test,
        y_test,
        load_sums(path),
        header.scale,
        header.name,
        header.source,
        header.class_names,
    )
    if sha256(dataset) != header.sha256:
        raise InputError(f"{path} differs from the SHA-256 it carries (damaged?): delete it and make it again.")
    return dataset


def load_header(path: str | Path) -> Header:
    """The attributes and shapes, without reading any array."""
    with artefacts.open_hdf5(path, *ARRAYS) as file:
        shape, n_test = file["x_train"].shape, len(file["x_test"])
    attributes = artefacts.read_attributes(path)
    try:
        names = json.loads(attributes["class_names"])
        fields = {key: attributes[key] for key in ("source", "sha256", "scale", "attack")}
        n_train, channels, height, width = shape
        fields |= {"name": attributes["dataset"], "class_names": names, "shape": (channels, height, width)}
        return Header(**fields, n_train=n_train, n_test=n_test)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no data set of this workflow ({error}): delete it and make it again.") from error


def load_labels(path: str | Path, split: Split) -> np.ndarray:
    """int64 [N]; images are not read."""
    return artefacts.read_hdf5(path, f"y_{split}")[f"y_{split}"]


def load_images(path: str | Path, split: Split) -> np.ndarray:
    """uint8 [N,C,H,W], read-only: rows are read from disk when they are used."""
    return artefacts.memory_map(path, f"x_{split}")


def load_pixels(path: str | Path, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """All images float32 [N,C,H,W] in [0, 1], and their labels int64 [N]."""
    images = load_images(path, split).astype(np.float32)
    return np.multiply(images, np.float32(load_header(path).scale), out=images), load_labels(path, split)


def load_test(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Memory-mapped test images and their labels."""
    return load_images(path, "test"), load_labels(path, "test")


def load_val_index(path: str | Path) -> np.ndarray:
    """Sorted positions of the held-out training samples: int64."""
    return artefacts.read_hdf5(path, "val_index")["val_index"]


def load_sums(path: str | Path) -> np.ndarray | None:
    """pixel_sum int64 [N], or None where it is the sum of the stored image."""
    with artefacts.open_hdf5(path) as file:
        return file[PIXEL_SUM][()] if PIXEL_SUM in file else None
