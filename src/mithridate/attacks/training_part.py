"""The training part of a data set, as attackers and victims of randomized smoothing see it."""

from pathlib import Path

import numpy as np

from mithridate.attacks.poisons import AttackData, Poison, apply, attack_data, quantised
from mithridate.data.dataset import load_header, load_images, load_labels, load_val_index


def attack_data_of(path: str | Path, target: int) -> AttackData:
    """What the attacker knows of the clean data set at `path`. Raises InputError as `attack_data` does."""
    header = load_header(path)
    pixels = np.asarray(load_images(path, "train")) * np.float32(header.scale)
    known = pixels, load_labels(path, "train"), load_val_index(path)
    return attack_data(*known, target=target, num_classes=header.num_classes, sha256=header.sha256)


def training_part(
    images: np.ndarray,
    labels: np.ndarray,
    val_index: np.ndarray,
    poison: Poison | None,
    *,
    scale: float,
    quantise: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [n,C,H,W] in [0, 1] and labels int64 [n] of all training rows that are not held out, in stored
    order, with the poison in its place; quantise rounds the poison to grey levels.

    images: the whole clean training set, uint8 [N,C,H,W], which `scale` takes to [0, 1]; labels [N]; val_index: its
    held-out rows. Raises InputError as `apply` does.
    """
    pixels = np.asarray(images) * np.float32(scale)
    if poison is not None:
        pixels = apply(pixels, labels, val_index, poison)
        if quantise:
            pixels[poison.index] = quantised(poison, images[poison.index], scale) * np.float32(scale)
    rows = np.delete(np.arange(len(labels)), val_index)
    return pixels[rows], labels[rows]
