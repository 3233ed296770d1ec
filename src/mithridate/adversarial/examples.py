"""Adversarial images as files that a user can take away: results/{dataset}/dgn/s{repeat}/{system}/{part}.h5.

Arrays: images float32 [m,C,H,W] in [0, 1], rows int64 [m], the positions of their originals in the split, labels int64
[m], the true classes, and classes int64 [m], those whose generator made them (of other attacks the labels).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mithridate.adversarial.similarity import similarity
from mithridate.artefacts import read_attributes, read_hdf5, read_provenance, write_hdf5
from mithridate.attacks.poisons import ball
from mithridate.data.checks import pieces
from mithridate.errors import InputError

Mode = Literal["transfer", "wrong-class", "random"]
ARRAYS = ("images", "rows", "labels", "classes")
LIKENESS = ("linf", "l2", "ssim")
FIELDS = ("attack", "mode", "epsilon", "true_label", "bounded", *LIKENESS)


@dataclass(frozen=True, eq=False)
class Examples:
    """attack: name of the system; true_label: whether the true class was used in making them; bounded: whether each
    pixel is within ε of its original; likeness: mean linf, l2 and ssim; seconds of making 1,000 of them."""

    images: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    attack: str
    mode: Mode
    epsilon: float
    true_label: bool
    bounded: bool
    likeness: dict[str, float]
    seconds_per_1000: float


def make_examples(
    originals: np.ndarray,
    labels: np.ndarray,
    images: np.ndarray,
    *,
    attack: str,
    mode: Mode,
    epsilon: float,
    true_label: bool,
    bounded: bool,
    seconds: float,
    classes: np.ndarray | None = None,
    keep: np.ndarray | None = None,
) -> Examples:
    """Examples of originals [n,C,H,W], made in so many seconds; classes: int64 [n], of the generators (None: the
    labels); keep: bool [n], of those that are kept (None: all). Raises InputError where none is."""
    rows = np.arange(len(images)) if keep is None else np.flatnonzero(keep)
    if not len(rows):
        raise InputError(
            f"mis_classification_check of {attack}: no generated image fools the target, so that none is left: train"
            " its generators longer, or leave mis_classification_check out."
        )
    found = similarity(originals[rows], images[rows]).mean()
    likeness = {name: float(found[name]) for name in LIKENESS}
    pace = 1000 * seconds / len(images)
    own = labels if classes is None else classes
    return Examples(
        images[rows], rows, labels[rows], own[rows], attack, mode, epsilon, true_label, bounded, likeness, pace
    )


def save_examples(path: str | Path, examples: Examples, originals: np.ndarray, provenance: Mapping[str, Any]) -> None:
    """Write them, after making sure of the ε-ball around originals [n,C,H,W] where it is promised, and of [0, 1]."""
    images, epsilon = examples.images, examples.epsilon if examples.bounded else 1.0
    for part in pieces(images, 8):
        low, high = ball(originals[examples.rows[part]], epsilon)
        if not ((images[part] >= low) & (images[part] <= high)).all():
            raise AssertionError(f"{path}: an image is outside the ε-ball")
    arrays = {name: getattr(examples, name) for name in ARRAYS}
    notes = {name: getattr(examples, name) for name in FIELDS if name not in LIKENESS} | examples.likeness
    write_hdf5(path, arrays, notes, {**provenance, "seconds_per_1000": examples.seconds_per_1000})


def load_examples(path: str | Path) -> Examples:
    """Raises InputError for a missing, damaged or foreign file."""
    arrays, notes, provenance = read_hdf5(path, *ARRAYS), read_attributes(path), read_provenance(path)
    try:
        likeness = {name: float(notes.pop(name)) for name in LIKENESS}
        known = {name: notes[name] for name in FIELDS if name not in LIKENESS}
        known |= {name: bool(known[name]) for name in ("true_label", "bounded")}
        pace = float(provenance["seconds_per_1000"])
        images, rows, labels, classes = (arrays[name] for name in ARRAYS)
        if images.ndim != 4 or images.dtype != np.float32 or {len(array) for array in arrays.values()} != {len(images)}:
            raise ValueError("arrays that do not fit together")
        return Examples(images, rows, labels, classes, **known, likeness=likeness, seconds_per_1000=pace)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} holds no adversarial images of this workflow: delete it and make it again."
        ) from error
