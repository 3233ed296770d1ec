"""A user's own data: an .npz file, or a folder of images."""

import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from PIL import Image

from mithridate.data.checks import class_numbers
from mithridate.data.dataset import ARRAYS, Dataset, validate
from mithridate.errors import InputError, brief

SCALE = 1 / 255
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".pbm", ".tif", ".tiff", ".webp", ".gif")
GREY, DEEP = ("1", "L", "LA"), ("I", "F")  # Pillow's modes; I;16 and its kin begin with I
# Pillow reads more formats, of which some run other programs.
FORMATS = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP", "GIF")
BIGGEST_IMAGE = 1 << 25  # pixels of a picture
# Compressed arrays up to SMALL bytes are read as they are; larger ones must not claim more than RATIO times
# what they take in the file (real images: 2 to 20 times), or a file of megabytes could ask for all memory.
SMALL, RATIO = 1 << 28, 100


def read_npz(path: str | Path, layout: str = "nhwc") -> dict[str, np.ndarray]:
    """x_train, y_train, x_test, y_test; images [N,H,W] or in `layout` (nhwc or nchw) become [N,C,H,W], labels
    [N,1] become [N]; types and values are left to `validate`.

    Nothing is unpickled, and no array is allocated before its header agrees with the size of the file. Raises
    InputError for a missing, truncated or damaged file, missing arrays, and axes that cannot be meant.
    """
    arrays = read_archive(path, ARRAYS)
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise InputError(f"{path} has no array {', '.join(missing)}: save it with {', '.join(ARRAYS)}.")
    for name in ("x_train", "x_test"):
        arrays[name] = _channels_first(f"{path}: {name}", arrays[name], layout)
    for name in ("y_train", "y_test"):
        if arrays[name].shape[1:] == (1,):
            arrays[name] = arrays[name][:, 0]
    return arrays


def read_archive(path: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of an .npz file that have one of these names, read without trust as `read_npz` says."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist or is no file: give the path of an .npz file.")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): archive.getinfo(name) for name in archive.namelist()}
            return {name: _read_array(path, archive, members[name], name) for name in names if name in members}
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib, lzma and struct each have errors of their own
        raise InputError(
            f"{path} is not a whole .npz file ({brief(error)}; truncated?): make or copy it again."
        ) from error


def load_npz(name: str, path: str | Path, layout: str = "nhwc", classes: int | None = None) -> Dataset:
    """The data set of an .npz file; without `classes`, they are the numbers up to the largest label of both sets."""
    arrays = read_npz(path, layout)
    names = class_numbers(arrays["y_train"], arrays["y_test"]) if classes is None else [str(c) for c in range(classes)]
    dataset = Dataset(
        **arrays,
        pixel_sum=None,
        scale=SCALE,
        name=name,
        source=f"npz file {Path(path).name}",
        class_names=names,
    )
    return validate(dataset, path)


def load_images(
    name: str,
    folder: str | Path,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] | None = None,
    channels: int | None = None,
) -> Dataset:
    """The data set of a folder train/<class>/*, test/<class>/*: classes and files in the order of their
    names, grey images as one channel where all are, else RGB; resized to `size` (height, width) where that is
    given. `classes` and `channels` fix the classes, in this order, and 1 or 3 channels.

    Raises InputError for a missing folder, a class that is not in `classes` or only in test, a class without images,
    and files that cannot be decoded or differ in size.
    """
    folder = Path(folder)
    train, test = _class_files(folder / "train"), _class_files(folder / "test")
    names = sorted(train) if classes is None else list(classes)
    unknown = sorted({*train, *test} - set(names)) if classes is not None else []
    if unknown:
        raise InputError(
            f"{folder} holds a class {unknown[0]} that data.classes does not name: add it there or remove it."
        )
    foreign = sorted(set(test) - set(names))
    if foreign:
        raise InputError(
            f"{folder / 'test' / foreign[0]} has no folder of that class in {folder / 'train'}: add or remove it."
        )
    paths = {
        split: [path for c in names for path in files.get(c, [])] for split, files in (("train", train), ("test", test))
    }
    labels = {
        split: np.array([i for i, c in enumerate(names) for _ in files.get(c, [])], np.int64)
        for split, files in (("train", train), ("test", test))
    }
    images, sums = decode([*paths["train"], *paths["test"]], size, channels)
    n = len(paths["train"])
    resized = "" if size is None else f", resized to {size[0]} x {size[1]} (bilinear)"
    dataset = Dataset(
        images[:n], labels["train"], images[n:], labels["test"],
        pixel_sum=None if size is None else sums[:n],
        scale=SCALE,
        name=name,
        source=f"image folder {folder.name}{resized}",
        class_names=names,
    )  # fmt: skip
    return validate(dataset, folder)


def decode(
    paths: Sequence[str | Path], size: tuple[int, int] | None, channels: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N,C,H,W], resized (Pillow, bilinear) to `size` (height, width) unless it is None, and the
    sums of their pixels at their original size, int64 [N]. channels: 1 or 3; None: 1 where all images are
    grey.

    Raises InputError for files that cannot be decoded, have more than 8 bits a channel, or differ in size.
    """
    headers = [image_header(path) for path in paths]
    if channels is None:
        channels = 1 if all(mode in GREY for mode, _ in headers) else 3
    if size is None:
        size = headers[0][1]
        for path, (_, other) in zip(paths, headers, strict=True):
            if other != size:
                raise InputError(
                    f"{path} is {other[0]} x {other[1]} (height x width) but {paths[0]} {size[0]} x"
                    f" {size[1]}: give data.image_size, to which all are resized."
                )
    images, sums = np.empty((len(paths), channels, *size), np.uint8), np.empty(len(paths), np.int64)
    for i, path in enumerate(paths):
        with open_picture(path) as file:
            image = file.convert("L" if channels == 1 else "RGB")
        sums[i] = np.asarray(image).sum(dtype=np.int64)
        if (image.height, image.width) != size:
            image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        images[i] = np.asarray(image).reshape(*size, channels).transpose(2, 0, 1)
    return images, sums


def _read_array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> np.ndarray:
    try:
        with archive.open(info) as file:
            version = npy.read_magic(file)
            read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read_header(file)
            header = file.tell()
    except (zipfile.BadZipFile, OSError):
        raise
    except Exception as error:  # NumPy parses it as Python
        raise InputError(
            f"{path}: {name} is no NumPy array ({brief(error)}): save it again with numpy.savez."
        ) from error
    if dtype.hasobject:
        raise InputError(
            f"{path}: {name} holds Python objects, which are never unpickled: save it as an array of numbers."
        )
    claimed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if claimed + header != info.file_size:
        raise InputError(
            f"{path}: {name} claims {claimed} bytes but holds {info.file_size - header}: make the file again."
        )
    if claimed > max(SMALL, RATIO * info.compress_size) or info.compress_size > path.stat().st_size:
        raise InputError(
            f"{path}: {name} claims {claimed} bytes but takes {info.compress_size} in the file: if that is"
            " right, save it uncompressed, with numpy.savez."
        )
    with archive.open(info) as file:
        return npy.read_array(file, allow_pickle=False)


def _channels_first(array: str, x: np.ndarray, layout: str) -> np.ndarray:
    if x.ndim == 3:
        return x[:, None]
    if x.ndim != 4:
        raise InputError(
            f"{array} has shape {x.shape}: give images as [N,H,W] or [N,H,W,C] (data.layout: nchw for [N,C,H,W])."
        )
    here, there = (x.shape[3], x.shape[1]) if layout == "nhwc" else (x.shape[1], x.shape[3])
    if here > 4 and there in (1, 3):
        other = "nchw" if layout == "nhwc" else "nhwc"
        raise InputError(
            f"{array} has shape {x.shape}, {here} channels in the layout {layout}: set data.layout: {other}."
        )
    return x.transpose(0, 3, 1, 2) if layout == "nhwc" else x


def _class_files(folder: Path) -> dict[str, list[Path]]:
    """Image files of each class folder, by name; hidden files and folders are left out."""
    if not folder.is_dir():
        raise InputError(
            f"{folder} does not exist: an image folder (data.path) holds train/<class>/* and test/<class>/*."
        )
    classes = [entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    if not classes:
        raise InputError(f"{folder} holds no class folders: put the images into {folder}/<class>/.")
    files = {}
    for entry in classes:
        found = [
            path for path in entry.iterdir() if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
        ]
        if not found:
            raise InputError(f"{entry} holds no images ({' '.join(EXTENSIONS)}): add some or remove the folder.")
        files[entry.name] = sorted(found, key=lambda path: path.name)
    return files


@contextmanager
def open_picture(path: str | Path, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """A picture, decoded where it is used in the block. Raises InputError for other formats, for damage, also where it
    shows in the block only, and for more than BIGGEST_IMAGE pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes; the limit here is lower
            with Image.open(path, formats=formats) as image:
                if image.width * image.height > BIGGEST_IMAGE:
                    raise InputError(
                        f"{path} has {image.width} x {image.height} pixels: shrink it to at most {BIGGEST_IMAGE}."
                    )
                yield image
    except InputError:
        raise
    except Exception as error:  # each of Pillow's decoders has errors of its own
        kind = "" if formats is FORMATS else f" as {' or '.join(formats)}"
        raise InputError(f"{path} cannot be decoded{kind} ({brief(error)}): replace or remove it.") from error


def image_header(path: str | Path) -> tuple[str, tuple[int, int]]:
    """Pillow's mode and (height, width), without decoding."""
    with open_picture(path) as image:
        mode, size = image.mode, (image.height, image.width)
    if mode.startswith(DEEP):
        raise InputError(f"{path} has more than 8 bits a channel (mode {mode}): convert it to 8 bits.")
    return mode, size
