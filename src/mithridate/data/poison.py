"""Poisoned variants of a data set: some training images get a trigger and the target's label.

Source: Weber et al., "RAB: Provable Robustness Against Backdoor Attacks", IEEE S&P 2023: the images are drawn
from other classes than the target. The draw depends on the seeds and on who may be drawn, never on the
trigger, so that attacks are compared on the same images, and drawing more keeps those drawn before. Nothing
else of the data set changes: a base classifier whose subset holds no poisoned image trains as on clean data.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mithridate import artefacts
from mithridate.data.checks import image_sums, pieces
from mithridate.data.dataset import ARRAYS, PIXEL_SUM, Dataset, describe, sha256
from mithridate.data.triggers import make_trigger, realised_norm
from mithridate.errors import InputError
from mithridate.options.attacks import AttackOptions, Variant
from mithridate.streams import Stream

POISONED_INDEX = "poisoned_index"


@dataclass(frozen=True, eq=False)
class Poisoned:
    """A variant of the data set `clean`: r training images, at positions index int64 [r] in the order of the
    draw, are replaced by images uint8 [r,C,H,W], their labels int64 [r] by the target; norm float64 [r] is how
    far an image moved, pixels being in [0, 1]."""

    clean: Dataset
    variant: Variant
    index: np.ndarray
    images: np.ndarray
    norm: np.ndarray

    @property
    def original_label(self) -> np.ndarray:
        """Labels of the drawn images before, int64 [r]."""
        return self.clean.y_train[self.index]

    @property
    def dataset(self) -> Dataset:
        """The variant as a data set, with all its training images in memory."""
        images = np.array(self.clean.x_train)
        images[self.index] = self.images
        return replace(self.labelled, x_train=images)

    @property
    def labelled(self) -> Dataset:
        """The variant, except that its training images are still the clean ones."""
        labels, sums = self.clean.y_train.copy(), self.clean.pixel_sum
        labels[self.index] = self.variant.attack.target
        if sums is not None:
            sums = sums.copy()
            sums[self.index] = image_sums(self.images)
        return replace(self.clean, y_train=labels, pixel_sum=sums)

    def pieces(self) -> Iterator[np.ndarray]:
        """All training images in stored order, a bounded piece of the clean ones at a time."""
        clean = self.clean.x_train
        for rows in pieces(clean):
            piece = np.array(clean[rows])
            inside = (self.index >= rows.start) & (self.index < rows.stop)
            piece[self.index[inside] - rows.start] = self.images[inside]
            yield piece


def draw(
    labels: np.ndarray, attack: AttackOptions, count: int, seed: int, draw_seed: int, key: str = "attacks"
) -> np.ndarray:
    """Positions of `count` training images of the attack's sources (None: of all classes but the target):
    int64 [count], the first of a shuffle that the two seeds, target and sources determine. seed is the
    experiment's.

    Raises InputError where there are not as many.
    """
    sources = attack.sources
    text = "all" if sources is None else "+".join(map(str, sorted(sources)))
    candidates = np.flatnonzero(labels != attack.target if sources is None else np.isin(labels, sources))
    if count > len(candidates):
        raise InputError(
            f"{key}.poisoned asks for {count} images but the classes they come from ({key}.sources) have"
            f" {len(candidates)}: ask for fewer."
        )
    shuffle = Stream("poison", seed, attack.target, text, draw_seed).permutations(1, len(candidates))[0]
    return candidates[shuffle[:count]].astype(np.int64)


def resolve_count(poisoned: float, n: int) -> int:
    """The number of images that `attacks.poisoned` asks for among n: a number itself, or a share below 1: the
    nearest whole number, at least 1."""
    return max(1, int(poisoned * n + 0.5)) if 0 < poisoned < 1 else int(poisoned)


def poison(dataset: Dataset, variant: Variant, seed: int, key: str = "attacks") -> Poisoned:
    """The variant of a clean data set; seed is the experiment's, key what messages call the configuration's block.

    Raises InputError for a target or source that is no class, for a test set of the target alone, for more images than
    there are, for a training set that is left with one class, and for a trigger that does not fit.
    """
    attack = variant.attack
    for name, numbers in (("target", [attack.target]), ("sources", attack.sources or [])):
        missing = [number for number in numbers if number >= dataset.num_classes]
        if missing:
            raise InputError(
                f"{key}.{name}: {dataset.name} has no class {missing[0]}, give a number from 0 to"
                f" {dataset.num_classes - 1}."
            )
    if (dataset.y_test == attack.target).all():
        raise InputError(
            f"{key}.target: all test images of {dataset.name} are of class {attack.target}, so that no success can be"
            " measured; choose another target."
        )
    count = resolve_count(variant.poisoned, len(dataset.y_train))
    index = draw(dataset.y_train, attack, count, seed, variant.seed, key)
    if (np.delete(dataset.y_train, index) == attack.target).all():
        raise InputError(f"{key}.poisoned: {count} poisoned images leave one class in {dataset.name}: ask for fewer.")
    before = dataset.x_train[index]
    after = make_trigger(attack, dataset.shape, key).apply(before, dataset.scale)
    return Poisoned(dataset, variant, index, after, realised_norm(before, after, dataset.scale))


def save_poisoned(path: str | Path, poisoned: Poisoned, val_index: np.ndarray, provenance: Mapping[str, Any]) -> None:
    """Write a variant as `dataset.save` writes a clean data set, with the clean one's val_index; in addition
    poisoned_index, poisoned_norm and original_label [r], in the order of the draw, and the attributes
    `poisoned` (r) and `draw_seed`. Raises InputError where it cannot be written."""
    made, attack = poisoned.labelled, poisoned.variant.attack
    arrays = {name: getattr(made, name) for name in (*ARRAYS, PIXEL_SUM)} | {
        "val_index": val_index,
        POISONED_INDEX: poisoned.index,
        "poisoned_norm": poisoned.norm,
        "original_label": poisoned.original_label,
    }
    images = arrays.pop("x_train")
    attributes = describe(made, sha256(made, poisoned.pieces()), json.dumps(attack.poisoned_by(), sort_keys=True))
    attributes |= {"poisoned": len(poisoned.index), "draw_seed": poisoned.variant.seed}
    with artefacts.new_hdf5(path, attributes, provenance) as file:
        _write_images(file, "x_train", images.shape, poisoned.pieces())
        for name, array in arrays.items():
            if array is not None:
                file.create_dataset(name, data=array)


def save_triggered(
    path: str | Path, dataset: Dataset, attack: AttackOptions, provenance: Mapping[str, Any], key: str = "attacks"
) -> None:
    """Write the test images with the trigger: x_test, their true labels y_test, and trigger_norm float64 [n];
    the attribute sha256 is that of the clean data set. Raises InputError for a trigger that does not fit and where
    it cannot be written."""
    clean, trigger = dataset.x_test, make_trigger(attack, dataset.shape, key)
    norms: list[np.ndarray] = []

    def triggered() -> Iterator[np.ndarray]:
        for rows in pieces(clean):
            before = clean[rows]
            after = trigger.apply(before, dataset.scale)
            norms.append(realised_norm(before, after, dataset.scale))
            yield after

    attributes = describe(dataset, sha256(dataset), json.dumps(attack.made_by(), sort_keys=True)) | {
        "trigger": attack.trigger_name
    }
    with artefacts.new_hdf5(path, attributes, provenance) as file:
        _write_images(file, "x_test", clean.shape, triggered())
        file.create_dataset("y_test", data=dataset.y_test)
        file.create_dataset("trigger_norm", data=np.concatenate(norms))


def load_poisoned_index(path: str | Path) -> np.ndarray:
    """Positions of the poisoned training images in the order of the draw: int64 [r]."""
    return artefacts.read_hdf5(path, POISONED_INDEX)[POISONED_INDEX]


def load_poisoned_norm(path: str | Path) -> np.ndarray:
    """How far each poisoned training image moved, in the order of the draw, pixels being in [0, 1]: float64 [r]."""
    return artefacts.read_hdf5(path, "poisoned_norm")["poisoned_norm"]


def _write_images(file: h5py.File, name: str, shape: tuple[int, ...], images: Iterable[np.ndarray]) -> None:
    """One contiguous data set, written piece by piece."""
    data, start = file.create_dataset(name, shape, np.uint8), 0
    for piece in images:
        data[start : start + len(piece)] = piece
        start += len(piece)
