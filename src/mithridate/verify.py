"""`mithridate verify`: the certificates' premise, checked on a finished run.

A few members are trained again from a copy of the training set in another order; their weights must be the same.
"""

import secrets
from pathlib import Path
from typing import Any

import numpy as np

from mithridate import device
from mithridate.data.dataset import load_header, load_images, load_labels, load_sums
from mithridate.data.partition import Subsets, load_subsets, make_subsets
from mithridate.errors import InputError
from mithridate.options.training import TrainingOptions
from mithridate.progress import Progress
from mithridate.streams import Stream
from mithridate.training.family import Subset, train_family, weight_hash
from mithridate.training.recipe import Recipe
from mithridate.training.slices import read_slice


def verify(folder: Path, members: int, seed: int | None) -> bool:
    """Whether `members` randomly drawn members of a family's folder come out with the same weights.

    folder: results/{dataset}/dpa/{variant}/k{k}d1. Raises InputError where it holds no trained family.
    """
    slices = _newest_slices(folder)
    data = folder.parents[2] / "data" / f"{folder.parent.name}.h5"
    seed = secrets.randbelow(2**32) if seed is None else seed
    stored, recipe = _stored(slices)
    if recipe.device == "cuda" and device.kind("auto") != "cuda":
        raise InputError(f"{folder} was trained on a GPU and this machine shows none: verify it where there is one.")
    device.prepare()
    shuffled, images, labels = _shuffled(data, load_subsets(folder / "subsets.h5"), seed)
    order = Stream("verify/members", seed).permutations(1, len(shuffled.indices))[0]
    drawn = sorted(int(number) for number in order[:members] if number in stored)
    print(f"training {len(drawn)} of {len(stored)} members again from shuffled files (--seed {seed})")
    progress = Progress("members trained again", len(drawn))
    again = [
        Subset(n, images[rows], labels[rows], shuffled.mean[n], shuffled.std[n])
        for n in drawn
        for rows in [shuffled.indices[n]]
    ]
    family = train_family(again, recipe, progress=progress)
    same = [weight_hash(family.member(i)) == stored[number] for i, number in enumerate(drawn)]
    for number, equal in zip(drawn, same, strict=True):
        print(f"member {number}: {'identical' if equal else 'DIFFERENT'}  {stored[number][:16]}")
    if not all(same):
        print("different weights: other files, another machine or version, or a training that is not deterministic")
    return all(same)


def _newest_slices(folder: Path) -> list[Path]:
    """All slices of the family's latest cut; those of an earlier --set-scatter may lie beside them."""
    cuts: dict[int, list[Path]] = {}
    for path in folder.glob("models/*-of-*.safetensors"):
        cuts.setdefault(int(path.stem.split("-of-")[1]), []).append(path)
    whole = [paths for count, paths in cuts.items() if len(paths) == count]
    if not whole:
        raise InputError(f"{folder} holds no whole family in models/: give its folder, results/…/dpa/clean/k50d1.")
    return max(whole, key=lambda paths: max(path.stat().st_mtime for path in paths))


def _stored(slices: list[Path]) -> tuple[dict[int, str], Recipe]:
    """Weight hashes by subset number, and the family's recipe."""
    hashes: dict[int, str] = {}
    plain: dict[str, Any] = {}
    for path in slices:
        family, plain = read_slice(path)
        hashes.update({int(n): weight_hash(family.member(i)) for i, n in enumerate(family.subset_ids)})
    options, shape = TrainingOptions(**plain["options"]), plain["shape"]
    return hashes, Recipe(**{**plain, "options": options, "shape": (shape[0], shape[1], shape[2])})


def _shuffled(data: Path, subsets: Subsets, seed: int) -> tuple[Subsets, np.ndarray, np.ndarray]:
    """The same training set in another order, partitioned anew."""
    header, images, labels, sums = (
        load_header(data),
        load_images(data, "train"),
        load_labels(data, "train"),
        load_sums(data),
    )
    order = Stream("verify/order", seed).permutations(1, len(labels))[0]
    images, labels, sums = images[order], labels[order], None if sums is None else sums[order]
    again = make_subsets(images, labels, subsets.k, subsets.d, scale=header.scale, sums=sums, hash=subsets.hash)  # type: ignore[arg-type]
    return again, images, labels
