"""Training, validation and test sets as six .npy files, in and out, for users of the code of Mehra et al. (CVPR 2021).

X_train.npy, X_val.npy, X_test.npy: images float32 [N,H,W,C] in [0, 1]; Y_train.npy, Y_val.npy, Y_test.npy: one-hot rows
float32 [N, classes]. Images as [N,H,W], in float64 or as uint8 grey levels from 0 to 255, and labels as whole numbers
[N] or [N,1] are read as well. Nothing is ever unpickled.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mithridate.atomic import atomic
from mithridate.data.checks import MAX_CLASSES, check_labels, shape_text
from mithridate.data.dataset import Dataset, validate
from mithridate.errors import InputError, brief

NAMES = ("train", "val", "test")
COLOURS = (1, 3)  # channels that images may have
SLACK = 1e-3  # of a grey level: what float32 may take from a whole number of them
LEVELS = (255, 16)  # grey levels that images may be in


@dataclass(frozen=True, eq=False)
class Splits:
    """By name (train, val, test): images float32 [N,C,H,W] in [0, 1] and labels int64 [N]."""

    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    num_classes: int


def export_splits(folder: str | Path, splits: Splits) -> None:
    """Write the six files, one after another, each whole or not at all. Raises InputError where one cannot be."""
    for name in NAMES:
        images = splits.images[name].astype(np.float32).transpose(0, 2, 3, 1)
        one_hot = np.eye(splits.num_classes, dtype=np.float32)[splits.labels[name]]
        for letter, array in (("X", images), ("Y", one_hot)):
            with atomic(Path(folder) / f"{letter}_{name}.npy") as part, part.open("wb") as file:
                np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def import_splits(folder: str | Path) -> Splits:
    """The data sets of six files.

    Raises InputError for a missing, truncated or pickled file, and for shapes, types or values that cannot be meant.
    """
    images, labels, widths = {}, {}, {}
    for name in NAMES:
        images[name], labels[name], widths[name] = read_split(folder, name)
        if images[name].shape[1:] != images["train"].shape[1:]:
            raise InputError(
                f"{Path(folder) / f'X_{name}.npy'}: images are {shape_text(images[name].shape[1:])} but those of"
                f" X_train.npy {shape_text(images['train'].shape[1:])} (channels, height, width): give all the same"
                " shape."
            )
    return Splits(images, labels, max(widths.values()))


def read_split(folder: str | Path, name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """One of NAMES by itself: images float32 [N,C,H,W] in [0, 1], labels int64 [N], and how many classes its labels
    tell of. Raises InputError as `import_splits` does."""
    x_path, y_path = (Path(folder) / f"{letter}_{name}.npy" for letter in "XY")
    images, (labels, num_classes) = _images(x_path), _labels(y_path)
    if len(images) != len(labels):
        raise InputError(
            f"{y_path} holds {len(labels)} labels but {x_path.name} {len(images)} images: give one label per image."
        )
    return images, labels, num_classes


def load_npy(name: str, folder: str | Path, classes: int | None = None) -> Dataset:
    """The data set of six files. Its training set is the train rows followed by the val rows, which are the held-out
    ones; without `classes`, there are as many as one-hot labels are wide.

    Raises InputError as `import_splits` does, and for pixels that are not whole grey levels k/255 (or k/16, as in
    scikit-learn's digits).
    """
    splits = import_splits(folder)
    levels = next((n for n in LEVELS if not any(_between(images, n).any() for images in splits.images.values())), 255)
    x = {part: _grey_levels(Path(folder) / f"X_{part}.npy", splits.images[part], levels) for part in NAMES}
    y = splits.labels
    n_train, n_val = len(y["train"]), len(y["val"])
    dataset = Dataset(
        x_train=np.concatenate([x["train"], x["val"]]),
        y_train=np.concatenate([y["train"], y["val"]]),
        x_test=x["test"],
        y_test=y["test"],
        pixel_sum=None,
        scale=1 / levels,
        name=name,
        source=f"npy files of folder {Path(folder).name}",
        class_names=[str(number) for number in range(splits.num_classes if classes is None else classes)],
        val_index=np.arange(n_train, n_train + n_val),
    )
    return validate(dataset, folder)


def _between(images: np.ndarray, levels: int) -> np.ndarray:
    """Which pixels, in [0, 1], are no whole number of grey levels."""
    return np.abs(images * levels - np.rint(images * levels)) > SLACK


def _grey_levels(path: Path, images: np.ndarray, levels: int) -> np.ndarray:
    """uint8 [N,C,H,W] of the pixels of a file, float32 in [0, 1]."""
    between = _between(images, levels)
    if between.any():
        row = int(between.any((1, 2, 3)).argmax())
        raise InputError(
            f"{path} holds pixels between grey levels (row {row}: {images[row][between[row]][0]:g} is no k/{levels}),"
            " as poisoned images do: give clean images in data.path, and a poisoned training set as smoothing.own."
        )
    return np.rint(images * levels).astype(np.uint8)


def _images(path: Path) -> np.ndarray:
    """float32 [N,C,H,W] in [0, 1]."""
    x = _array(path)
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or x.shape[3] not in COLOURS or x.size == 0:
        raise InputError(
            f"{path} has shape {shape_text(x.shape)}: give images as [N, height, width] or [N, height, width, channels]"
            " with 1 or 3 channels."
        )
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise InputError(f"{path} is {x.dtype}: give images as float32 in [0, 1] or as uint8 grey levels.")
    pixels = x.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    if x.dtype == np.uint8:
        return pixels * np.float32(1 / 255)  # the workflow's own scale: dividing rounds otherwise
    if not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN is neither
        raise InputError(f"{path} has pixels outside [0, 1], or NaN: divide grey levels by 255 before you save them.")
    return pixels


def _labels(path: Path) -> tuple[np.ndarray, int]:
    """int64 [N], and how many classes there are as far as this file says."""
    y = _array(path)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2 and y.dtype.kind in "biuf" and y.shape[1] <= MAX_CLASSES:
        ones = y == 1
        if not (ones | (y == 0)).all() or not (ones.sum(1) == 1).all():
            raise InputError(f"{path}: rows must be one-hot (one 1 and else 0); or give labels as whole numbers [N].")
        return ones.argmax(1).astype(np.int64), y.shape[1]
    check_labels(str(path), y, MAX_CLASSES)
    return y.astype(np.int64), int(y.max(initial=0)) + 1


def _array(path: Path) -> np.ndarray:
    """The array of a file whose header agrees with its size, as a view of the file."""
    if not path.is_file():
        raise InputError(
            f"{path} does not exist: X_train.npy and Y_train.npy are needed, for a whole data set also X_val.npy, ...,"
            " Y_test.npy."
        )
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a broken header may fail in any way
        raise InputError(
            f"{path} is not a whole .npy file of plain numbers ({brief(error)}): save it again with numpy.save."
        ) from error
    if not isinstance(array, np.memmap) or path.stat().st_size != array.offset + array.nbytes:
        raise InputError(
            f"{path} is not one .npy array, or longer than its header says: save it again with numpy.save."
        )
    return array
