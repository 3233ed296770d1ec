"""The files that come with the published BadNets: HDF5 of labelled face images, and single pictures. Nobody vouches for
them (`mithridate.hdf5_guard`)."""

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image, ImageOps

from mithridate.artefacts import write_hdf5
from mithridate.data.checks import CHUNK_BYTES, MAX_CLASSES, check_labels, shape_text
from mithridate.data.files import BIGGEST_IMAGE, DEEP, GREY, open_picture
from mithridate.errors import InputError
from mithridate.hdf5_guard import check_stored, damage, member, open_foreign

TRUE = "true_label"
DARK = 2  # of 255: no picture is that dark
DEPTH = 24  # place in a PNG file of its bits a channel
PEEK = 64  # images looked at when a file is opened


@dataclass(frozen=True, eq=False)
class Faces:
    """labels int64 [N], true classes of triggered images (None: not known), and images that are read from the open file
    when they are asked for; shape is (channels, height, width)."""

    path: Path
    labels: np.ndarray
    true_labels: np.ndarray | None
    shape: tuple[int, int, int]
    data: h5py.Dataset

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, index: slice | np.ndarray) -> np.ndarray:
        """The images that NumPy would select from [N, ...] by `index`, in that order, float32 in [0, 1].

        Beside them it takes memory for a bounded piece of the file. Raises InputError for values outside 0 to 255.
        """
        rows = np.arange(len(self))[index]
        images = np.empty((len(rows), *self.shape), np.float32)
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        longest = max(1, CHUNK_BYTES // (math.prod(self.shape) * self.data.dtype.itemsize))
        apart = self.data.chunks[0] if self.data.chunks else 1  # what lies in one chunk is read together
        start = 0
        while start < len(rows):
            first = ordered[start]
            stop = start + int(np.searchsorted(ordered[start:], first + longest))
            gaps = np.flatnonzero(np.diff(ordered[start:stop]) > apart)
            stop = start + int(gaps[0]) + 1 if len(gaps) else stop
            with damage(self.path):
                part = self.data[first : ordered[stop - 1] + 1][ordered[start:stop] - first]
            if not (part.min() >= 0 and part.max() <= 255):  # NaN is neither
                raise InputError(
                    f"{self.path}: data holds values outside 0 to 255, or NaN, among the images {first} to"
                    f" {ordered[stop - 1]}: save pixels from 0 to 255."
                )
            images[order[start:stop]] = part.astype(np.float32) / np.float32(255)
            start = stop
        return images


@contextmanager
def open_faces(
    path: str | Path, shape: tuple[int, int, int] | None = None, num_classes: int | None = None
) -> Iterator[Faces]:
    """The images of an HDF5 file with `data` [N,C,H,W], numbers from 0 to 255, `label` [N] or [N,1], and perhaps
    `true_label` [N].

    shape (channels, height, width) and num_classes are those that are expected, if any. Raises InputError for a missing
    or damaged file, missing, foreign or oversized data sets, another layout, and values that cannot be meant.
    """
    with open_foreign(path) as file:
        with damage(path):
            faces = _faces(Path(path), file, shape, num_classes)
        yield faces


def write_faces(
    path: str | Path,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    scale: float,
    provenance: Mapping[str, Any],
    true_labels: np.ndarray | None = None,
) -> None:
    """Write uint8 images [n,C,H,W], which `scale` takes to [0, 1], and labels in this layout."""
    data = images if scale == 1 / 255 else images.astype(np.float32) * np.float32(255 * scale)
    arrays = {"data": data, "label": labels} | ({} if true_labels is None else {TRUE: true_labels})
    write_hdf5(path, arrays, {}, provenance)


def load_image(path: str | Path, shape: tuple[int, int, int]) -> np.ndarray:
    """One PNG or JPEG as float32 [C,H,W] in [0, 1]; shape is (channels, height, width), with 1 or 3 channels.

    What has to be changed for that is said on standard error: another size is resized (bilinear), transparency is
    dropped and the colours beneath it are taken, grey is repeated. A photograph is turned upright as its camera says.
    Raises InputError for other formats, animations, more than 8 bits a channel, and pictures of more than 2^25 pixels.
    """
    channels, height, width = shape
    if channels not in (1, 3):
        raise InputError(f"{path} cannot become an image of {channels} channels: give an HDF5 file for such a network.")
    if not Path(path).is_file():
        raise InputError(f"{path} does not exist or is no file: give the path of a PNG or JPEG picture.")
    with open_picture(path, ("PNG", "JPEG")) as file:
        _check_picture(path, file)
        changes = _changes(file, channels)
        image = ImageOps.exif_transpose(file.convert("L" if channels == 1 else "RGB"))
    if (image.height, image.width) != (height, width):
        changes.append(f"it is resized from {image.height} x {image.width} to {height} x {width} (height x width)")
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    for change in changes:
        print(f"warning: {path}: {change}", file=sys.stderr)
    pixels = np.asarray(image, np.float32).reshape(height, width, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)) / np.float32(255)


def _faces(path: Path, file: h5py.File, shape: tuple[int, int, int] | None, num_classes: int | None) -> Faces:
    data = _dataset(path, file, "data")
    _check_shape(path, data.shape, shape)
    labels = _labels(path, file, "label", data, num_classes)
    true = None if member(path, file, TRUE) is None else _labels(path, file, TRUE, data, num_classes)
    faces = Faces(path, labels, true, data.shape[1:], data)
    if data.dtype.kind == "f" and 0 < (brightest := faces.images(slice(PEEK)).max() * 255) <= DARK:
        raise InputError(
            f"{path}: data holds pixels up to {brightest:g}, as if from 0 to 1 and not to 255: save 255 times as much."
        )
    return faces


def _labels(path: Path, file: h5py.File, name: str, data: h5py.Dataset, num_classes: int | None) -> np.ndarray:
    label = _dataset(path, file, name)
    if label.shape not in ((len(data),), (len(data), 1)):
        raise InputError(
            f"{path}: data holds {len(data)} images but {name} is {shape_text(label.shape)}: give one label per image."
        )
    labels = label[()].reshape(-1)
    if labels.dtype.kind == "f" and (labels == np.round(labels)).all():  # whole, and not NaN
        labels = np.clip(labels, -(2**31), 2**31).astype(np.int64)
    check_labels(f"{path}: {name}", labels, num_classes or MAX_CLASSES)
    return labels.astype(np.int64)


def _dataset(path: str | Path, file: h5py.File, name: str) -> h5py.Dataset:
    found = member(path, file, name)
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{path} has no data set {name}: give a file with data [N,C,H,W] and label [N].")
    check_stored(path, found, "fui")
    return found


def _check_shape(path: Path, data: tuple[int, ...], shape: tuple[int, int, int] | None) -> None:
    if len(data) != 4 or (data[3] in (1, 3) and data[1] > 4):
        raise InputError(f"{path}: data is {shape_text(data)}: save images as [N,C,H,W], channels before rows.")
    if math.prod(data[1:]) > BIGGEST_IMAGE:
        raise InputError(f"{path}: an image of {shape_text(data[1:])} is too large: give smaller images.")
    if shape is not None and data[1:] != tuple(shape):
        raise InputError(
            f"{path}: images are {shape_text(data[1:])} but the network takes {shape_text(shape)} (channels, height,"
            " width): give the data of this network."
        )


def _check_picture(path: str | Path, image: Image.Image) -> None:
    if image.format == "PNG" and Path(path).read_bytes()[DEPTH : DEPTH + 1] == b"\x10":  # Pillow halves it silently
        raise InputError(f"{path} has more than 8 bits a channel: convert it to 8 bits.")
    if image.format == "PNG" and getattr(image, "is_animated", False):  # a JPEG of several pictures is no animation
        raise InputError(f"{path} is an animation: give a single picture.")
    if image.mode.startswith(DEEP):
        raise InputError(f"{path} has more than 8 bits a channel (mode {image.mode}): convert it to 8 bits.")


def _changes(image: Image.Image, channels: int) -> list[str]:
    changes = []
    if "A" in image.getbands() or "transparency" in image.info:
        changes.append("its transparency is dropped")
    if channels == 3 and image.mode in GREY:
        changes.append("it is grey: its one channel is repeated for red, green and blue")
    if channels == 1 and image.mode not in GREY:
        changes.append("its colours are turned to grey")
    return changes
