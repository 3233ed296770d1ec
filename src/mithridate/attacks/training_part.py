"""The training part of a data set on disk, as attackers and victims of randomized smoothing see it."""

from pathlib import Path

import numpy as np

from mithridate.attacks.poisons import AttackData, Poison, apply, attack_data, quantised
from mithridate.data.dataset import load_header, load_images, load_labels, load_val_index
from mithridate.errors import InputError


def attack_data_of(path: str | Path, target: int) -> AttackData:
    """What the attacker knows of the clean data set at `path`. Raises InputError as `attack_data` does."""
    header = load_header(path)
    known = _pixels(path), load_labels(path, "train"), load_val_index(path)
    return attack_data(*known, target=target, num_classes=header.num_classes, sha256=header.sha256)


def training_part(path: str | Path, poison: Poison | None, *, quantise: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [n,C,H,W] in [0, 1] and labels int64 [n] of all training rows that are not held out, in stored
    order, with the poison in its place; quantise rounds the poison to grey levels. Raises InputError as `apply` does,
    and for a poison of held-out images.
    """
    images, labels, held_out = _pixels(path), load_labels(path, "train"), load_val_index(path)
    if poison is not None and np.isin(poison.index, held_out).any():
        raise InputError(
            "the poison holds images that are held out here: it was made for another split; make it again."
        )
    if poison is not None:
        images = apply(images, poison)
        if quantise:
            scale, clean = load_header(path).scale, load_images(path, "train")[poison.index]
            images[poison.index] = quantised(poison, clean, scale) * np.float32(scale)
    kept = np.ones(len(labels), bool)
    kept[held_out] = False
    return images[kept], labels[kept]


def _pixels(path: str | Path) -> np.ndarray:
    """All training images float32 [N,C,H,W] in [0, 1]."""
    return np.asarray(load_images(path, "train")) * np.float32(load_header(path).scale)
