"""Poisons within an ε-ball: what may be moved, the random control, and the artefact
`results/{dataset}/smoothing/poison/{procedure}-s{sigma}-e{epsilon}-t{class}.h5`.

The file's arrays: images float32 [n,C,H,W] in [0, 1], index and labels int64 [n], and the attack's history, a column
each. Every stored pixel differs from its original by at most ε, exactly as well as in float32 and float64 arithmetic.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mithridate import artefacts
from mithridate.data.splits import SLACK
from mithridate.errors import InputError
from mithridate.options.base import number
from mithridate.streams import Stream

ARRAYS = ("images", "index", "labels")
FIELDS = ("sha256", "procedure", "sigma", "epsilon", "target", "seed")  # attributes that are plain values


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

    @property
    def name(self) -> str:
        """What its file is called, without the ending."""
        noise = f"-s{number(self.sigma)}" if self.sigma else ""
        return f"{self.procedure}{noise}-e{number(self.epsilon)}-t{self.target}"


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


def apply(images: np.ndarray, labels: np.ndarray, val_index: np.ndarray, poison: Poison) -> np.ndarray:
    """The whole training set, float32 [N,C,H,W] in [0, 1] with labels [N] and held-out rows, with the poison in its
    place; a copy.

    Raises InputError where the poison is not one of all rows of its target that are not held out, or leaves the ε-ball:
    then it is another training set's.
    """
    kept = np.ones(len(labels), bool)
    kept[val_index] = False
    if not np.array_equal(np.sort(poison.index), np.flatnonzero(kept & (labels == poison.target))):
        raise InputError(
            f"the poison {poison.name} does not replace all training images of class {poison.target} that are not held"
            " out: it was made for another data set or split; make it again."
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

    Raises InputError for a missing or damaged file, one that is no poison, one of another data set, and one whose name
    says otherwise than its content.
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
    poison = Poison(images, index, labels, **fields, options=options, history=table)
    if poison.name != Path(path).stem:
        raise InputError(f"{path} holds the poison {poison.name}: it was renamed; delete it and make it again.")
    return poison


def quantised(poison: Poison, clean: np.ndarray, scale: float) -> np.ndarray:
    """The poison as uint8 [n,C,H,W], each pixel rounded towards its original: |change| ≤ ε/scale grey levels, rounded
    down (ε = 0.03 at 1/255 allows 7 and not 8).

    clean: the original images uint8 [n,C,H,W]; scale takes a grey level to [0, 1].
    """
    change = (poison.images.astype(np.float64) - clean * np.float64(scale)) / scale
    most = np.floor(poison.epsilon / scale * (1 + 1e-9))  # a whole number of levels may come out just below it
    steps = np.minimum(np.floor(np.abs(change) + SLACK), most)
    return (clean + np.copysign(steps, change)).astype(np.uint8)
