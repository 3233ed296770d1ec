"""Poisoned training sets from and for other programs, as .npy files."""

from pathlib import Path

import numpy as np

from mithridate.attacks.poisons import Poison, ball
from mithridate.attacks.training_part import training_part
from mithridate.data.checks import shape_text
from mithridate.data.splits import Splits, read_split
from mithridate.errors import InputError

ROUNDING = 1e-6  # what another program's float32 arithmetic may add to a pixel
REMEDY = "poison the X_train.npy that the workflow writes of this data set, keeping its rows, labels and order"


def own_poison(
    folder: str | Path,
    images: np.ndarray,
    labels: np.ndarray,
    val_index: np.ndarray,
    *,
    scale: float,
    target: int,
    epsilon: float,
    seed: int,
    sha256: str,
) -> Poison:
    """A user's: X_train.npy and Y_train.npy of a folder, which hold the training part as `splits_of` cuts it.

    images: the whole clean training set, uint8 [N,C,H,W], which `scale` takes to [0, 1]; labels [N]; val_index: sorted
    positions of its held-out rows. Every training image of the target counts as poisoned, moved or not. Raises
    InputError for other rows or labels than the training part's, and for an image of another class, or one of the
    target by more than ε, that differs from the clean one; pixels within rounding of the ball are clipped into it.
    """
    rows = np.delete(np.arange(len(labels)), val_index)
    clean, classes = images[rows] * np.float32(scale), labels[rows]
    given = _training_part(Path(folder), clean, classes)
    change, ours = np.abs(given - clean).max((1, 2, 3)), classes == target
    if (wrong := change > np.where(ours, epsilon, 0) + ROUNDING).any():
        row = int(wrong.argmax())
        reason = f"only class {target} (smoothing.target) may be moved: {REMEDY}"
        if ours[row]:
            reason = f"smoothing.epsilon is {epsilon:g}: raise it or clip the images to it"
        raise InputError(
            f"{Path(folder) / 'X_train.npy'}: row {row}, of class {classes[row]}, is {change[row]:g} away from the"
            f" clean image but {reason}."
        )
    made = np.clip(given[ours], *ball(clean[ours], epsilon))
    return Poison(made, rows[ours], classes[ours].astype(np.int64), sha256, "own", 0.0, epsilon, target, seed)


def _training_part(folder: Path, clean: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The images of X_train.npy, which has the rows and labels of the clean training part, float32 [n,C,H,W]."""
    given, given_labels, _ = read_split(folder, "train")
    if given.shape != clean.shape:
        raise InputError(
            f"{folder / 'X_train.npy'} holds images {shape_text(given.shape)} but the clean training part is"
            f" {shape_text(clean.shape)} (rows, channels, height, width): {REMEDY}."
        )
    if (wrong := given_labels != labels).any():
        row = int(wrong.argmax())
        raise InputError(
            f"{folder / 'Y_train.npy'}: row {row} is of class {given_labels[row]} but of class {labels[row]} in the"
            f" clean training part: {REMEDY}."
        )
    return given


def splits_of(
    images: np.ndarray,
    labels: np.ndarray,
    val_index: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    *,
    scale: float,
    num_classes: int,
    poison: Poison | None = None,
    quantise: bool = False,
) -> Splits:
    """What `export_splits` writes of a data set, uint8 [N,C,H,W] which `scale` takes to [0, 1]: val is the training
    set's rows val_index; train is what victims are trained on, see `training_part`. Raises InputError as that does."""
    train, classes = training_part(images, labels, val_index, poison, scale=scale, quantise=quantise)
    pixels = {
        "train": train,
        "val": images[val_index] * np.float32(scale),
        "test": test_images * np.float32(scale),
    }
    return Splits(pixels, {"train": classes, "val": labels[val_index], "test": test_labels}, num_classes)
