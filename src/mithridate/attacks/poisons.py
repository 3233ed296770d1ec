"""Poisons within an ε-ball: what may be moved, the random control, and the artefact
`results/{dataset}/smoothing/poison/{procedure}-s{sigma}-e{epsilon}-t{class}.h5`.

The file's arrays: images float32 [n,C,H,W] in [0, 1], index and labels int64 [n], and the attack's history, a column
each. Every stored pixel differs from its original by at most ε, exactly as well as in float32 and float64 arithmetic.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mithridate import artefacts
from mithridate.data.checks import shape_text
from mithridate.data.splits import SLACK, Splits, read_split
from mithridate.errors import InputError
from mithridate.streams import Stream

ARRAYS = ("images", "index", "labels")
FIELDS = ("sha256", "procedure", "sigma", "epsilon", "target", "seed")  # attributes that are plain values
ROUNDING = 1e-6  # what another program's float32 arithmetic may add to a pixel
REMEDY = "poison the X_train.npy that the workflow writes of this data set, keeping its rows, labels and order"


@dataclass(frozen=True, eq=False)
class AttackData:
    """What the attacker knows of a data set: its training part, of which it moves the target's images, and held-out
    images of the target. Pixels are float32 in [0, 1]."""

    images: np.ndarray
    """the target's training images [n,C,H,W]"""
    index: np.ndarray
    """their rows of the training set, int64 [n]"""
    others: np.ndarray
    """the other classes' training images [m,C,H,W]"""
    other_labels: np.ndarray
    """int64 [m]"""
    validation: np.ndarray
    """held-out images of the target [v,C,H,W]"""
    target: int
    num_classes: int
    sha256: str
    """of the data set"""


@dataclass(frozen=True, eq=False)
class Poison:
    """Images float32 [n,C,H,W] that stand in for the rows index int64 [n] of a training set, whose labels int64 [n]
    stay; and what made them."""

    images: np.ndarray
    index: np.ndarray
    labels: np.ndarray
    sha256: str
    """of the clean data set"""
    procedure: str
    """the victims' training procedure that was attacked, `random`, or `own` for a user's files"""
    sigma: float
    """the noise that was attacked; 0 where the poison does not depend on it"""
    epsilon: float
    target: int
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    """one row an epoch, of numbers"""


def attack_data(
    images: np.ndarray, labels: np.ndarray, val_index: np.ndarray, *, target: int, num_classes: int, sha256: str
) -> AttackData:
    """Cut a whole training set, float32 [N,C,H,W] in [0, 1] with labels [N], into what the attacker knows.

    Raises InputError where the target has no training images, no held-out ones, or is the only class.
    """
    training = np.ones(len(labels), bool)
    training[val_index] = False
    ours = labels == target
    index, others = np.flatnonzero(training & ours).astype(np.int64), training & ~ours
    validation = images[val_index][ours[val_index]]
    if not len(index) or not others.any():
        lacking = "no class other than the target" if len(index) else f"no images of class {target}"
        raise InputError(f"smoothing.target: the training part holds {lacking}; choose a class from the data set.")
    if not len(validation):
        raise InputError(
            f"smoothing.target: none of the {len(val_index)} held-out images is of class {target}, and the attack"
            " measures itself on those; raise data.validation_fraction (data.source npy: add some to X_val.npy)."
        )
    return AttackData(
        images[index], index, images[others], labels[others].astype(np.int64), validation, target, num_classes, sha256
    )


def ball(clean: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """The least and greatest float32 that a pixel may become: within ε of `clean` (float32) and within [0, 1].

    |pixel − clean| ≤ ε then holds for the exact difference and for the one rounded to float32.
    """
    reach = np.float32(epsilon)
    if float(reach) > epsilon:
        reach = np.nextafter(reach, np.float32(0))
    exact, sides = clean.astype(np.float64), []
    for sign, limit in ((-1, 0), (1, 1)):
        side = (exact + sign * float(reach)).astype(np.float32)
        outside = sign * (side.astype(np.float64) - exact) > float(reach)
        side[outside] = np.nextafter(side[outside], clean[outside])
        sides.append(np.maximum(side, limit) if sign < 0 else np.minimum(side, limit))
    return sides[0], sides[1]


def random_poison(data: AttackData, *, epsilon: float, seed: int) -> Poison:
    """The control: every pixel of the target's training images moves by +ε or −ε with probability ½, within [0, 1]."""
    low, high = ball(data.images, epsilon)
    up = Stream("random poison", seed, data.target).uniform(*data.images.shape) < 0.5
    labels = np.full(len(data.index), data.target, np.int64)
    made = np.where(up, high, low)
    return Poison(made, data.index, labels, data.sha256, "random", 0.0, epsilon, data.target, seed)


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
) -> Splits:
    """What `export_splits` writes of a data set, uint8 [N,C,H,W] which `scale` takes to [0, 1]: val is the training
    set's rows val_index; train is the others in stored order, poisoned where a poison is given.

    Raises InputError where the poison was made for another data set or other held-out rows.
    """
    rows = np.delete(np.arange(len(labels)), val_index)
    train = images[rows] * np.float32(scale)
    if poison is not None:
        held_out = np.isin(poison.index, val_index)
        if held_out.any():
            raise InputError(
                f"the poison replaces row {poison.index[held_out][0]}, which is held out: it was made for other"
                " held-out rows; make it again."
            )
        train = apply(train, replace(poison, index=np.searchsorted(rows, poison.index)))
    pixels = {
        "train": train,
        "val": images[val_index] * np.float32(scale),
        "test": test_images * np.float32(scale),
    }
    return Splits(pixels, {"train": labels[rows], "val": labels[val_index], "test": test_labels}, num_classes)


def apply(images: np.ndarray, poison: Poison) -> np.ndarray:
    """The whole training set, float32 [N,C,H,W] in [0, 1], with the poison in its place; a copy.

    Raises InputError where a row does not exist or a pixel lies outside the ε-ball: then it is another training set.
    """
    if len(poison.index) and int(poison.index.max()) >= len(images):
        raise InputError(
            f"the poison replaces row {poison.index.max()} of a training set of {len(images)}: it was made for another"
            " data set; make it again."
        )
    check_ball(poison, images[poison.index], "the poison")
    poisoned = images.copy()
    poisoned[poison.index] = poison.images
    return poisoned


def check_ball(poison: Poison, clean: np.ndarray, where: str) -> None:
    """Make sure that images are float32 and within ε of `clean`, float32 [n,C,H,W], and [0, 1]. Raises InputError."""
    if poison.images.dtype != np.float32 or clean.dtype != np.float32 or poison.images.shape != clean.shape:
        raise InputError(
            f"{where} holds {poison.images.dtype} {list(poison.images.shape)} but the clean images are {clean.dtype}"
            f" {list(clean.shape)}: both must be float32 and of one shape."
        )
    low, high = ball(clean, poison.epsilon)
    outside = ~((poison.images >= low) & (poison.images <= high))  # NaN lies outside too
    if outside.any():
        far = float(np.abs(poison.images.astype(np.float64) - clean).max())
        raise InputError(
            f"{where} leaves the ball of ε = {poison.epsilon:g} within [0, 1] at {outside.sum()} pixels (largest change"
            f" {far:g}): it is damaged or belongs to another data set; make it again."
        )


def save_poison(path: str | Path, poison: Poison, clean: np.ndarray, provenance: Mapping[str, Any]) -> None:
    """Write a poison made of the images `clean`, float32 [n,C,H,W]. Raises InputError where it leaves the ε-ball, and
    where the file cannot be written."""
    check_ball(poison, clean, str(path))
    arrays = {name: getattr(poison, name) for name in ARRAYS}
    arrays |= {f"history/{column}": values.to_numpy() for column, values in poison.history.items()}
    attributes = {name: getattr(poison, name) for name in FIELDS}
    attributes |= {"options": dict(poison.options), "history": list(poison.history.columns)}
    artefacts.write_hdf5(path, arrays, attributes, provenance)


def load_poison(path: str | Path, sha256: str) -> Poison:
    """The poison of a file, which must have been made for the data set with this SHA-256.

    Raises InputError for a missing or damaged file, one that is no poison, and one of another data set.
    """
    arrays, given = artefacts.read_hdf5(path, *ARRAYS), artefacts.read_attributes(path)
    foreign = InputError(f"{path} is no poison of this workflow: delete it and make it again.")
    try:
        fields: dict[str, Any] = {name: given[name] for name in FIELDS}
        options, columns = json.loads(given["options"]), json.loads(given["history"])
        history = artefacts.read_hdf5(path, *(f"history/{column}" for column in columns))
    except (KeyError, TypeError, ValueError) as error:
        raise foreign from error
    if fields["sha256"] != sha256:
        raise InputError(
            f"{path} was made for another data set (SHA-256 {str(fields['sha256'])[:12]}…, not {sha256[:12]}…):"
            " delete it and make it again."
        )
    images, index, labels = (arrays[name] for name in ARRAYS)
    shapes = images.ndim == 4 and index.shape == labels.shape == (len(images),)
    if not shapes or images.dtype != np.float32 or index.dtype != np.int64 or labels.dtype != np.int64:
        raise foreign
    if len(np.unique(index)) < len(index) or (len(index) and index.min() < 0) or (labels != fields["target"]).any():
        raise foreign
    table = pd.DataFrame({column: history[f"history/{column}"] for column in columns})
    return Poison(images, index, labels, **fields, options=options, history=table)


def quantised(poison: Poison, clean: np.ndarray, scale: float) -> np.ndarray:
    """The poison as uint8 [n,C,H,W], each pixel rounded towards its original: |change| ≤ ε/scale grey levels, rounded
    down (ε = 0.03 at 1/255 allows 7 and not 8).

    clean: the original images uint8 [n,C,H,W]; scale takes a grey level to [0, 1].
    """
    change = (poison.images.astype(np.float64) - clean * np.float64(scale)) / scale
    most = np.floor(poison.epsilon / scale * (1 + 1e-9))  # a whole number of levels may come out just below it
    steps = np.minimum(np.floor(np.abs(change) + SLACK), most)
    return (clean + np.copysign(steps, change)).astype(np.uint8)
