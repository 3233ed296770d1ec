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
from mithridate.training.family import train_family, weight_hash
from mithridate.training.recipe import Recipe
from mithridate.training.slices import boost_of, read_slice
from mithridate.training.subset import members_of


def verify(folder: Path, members: int, seed: int | None) -> bool:
    """Whether `members` randomly drawn members of a family's folder come out with the same weights.

    folder: results/{dataset}/dpa/{variant}/k{k}d{d}; members of every boost seed there. Raises InputError where
    it holds no trained family.
    """
    folder = folder.resolve()
    slices = _newest_slices(folder)
    data = folder.parents[2] / "data" / f"{folder.parent.name}.h5"
    seed = secrets.randbelow(2**32) if seed is None else seed
    stored = {boost: _stored(paths) for boost, paths in slices.items()}
    recipe = stored[0][1]
    if recipe.device == "cuda" and device.kind("auto") != "cuda":
        raise InputError(f"{folder} was trained on a GPU and this machine shows none: verify it where there is one.")
    device.prepare(recipe.device)
    shuffled, images, labels = _shuffled(data, load_subsets(folder / "subsets.h5"), seed)
    drawn = [
        int(n) for n in np.sort(Stream("verify/members", seed).permutations(1, len(shuffled.indices))[0, :members])
    ]
    again = members_of(drawn, shuffled, images, labels)
    total = len(shuffled.indices) * len(stored)
    print(f"training {len(drawn) * len(stored)} of {total} members again from shuffled files (--seed {seed})")
    progress = Progress("members trained again", len(drawn) * len(stored))
    same = []
    for boost, (hashes, _) in stored.items():
        family = train_family(again, recipe, boost=boost, progress=progress)
        for position, number in enumerate(drawn):
            same.append(weight_hash(family.member(position)) == hashes[number])
            name = f"member {number}" + (f", boost seed {boost}" if boost else "")
            print(f"{name}: {'identical' if same[-1] else 'DIFFERENT'}  {hashes[number][:16]}")
    if not all(same):
        print("different weights: other files, another machine or version, or a training that is not deterministic")
    return all(same)


def _newest_slices(folder: Path) -> dict[int, list[Path]]:
    """By boost seed, all slices of the family's latest cut; those of an earlier --set-scatter may lie beside them."""
    cuts: dict[tuple[int, int], list[Path]] = {}
    for path in folder.glob("models/*-of-*.safetensors"):
        cut, _, ending = path.stem.split("-of-")[1].partition("-")
        cuts.setdefault((boost_of(f"-{ending}" if ending else ""), int(cut)), []).append(path)
    newest: dict[int, list[Path]] = {}
    for (boost, count), paths in sorted(cuts.items()):
        if len(paths) == count and (boost not in newest or _time(paths) > _time(newest[boost])):
            newest[boost] = paths
    if 0 not in newest:
        raise InputError(f"{folder} holds no whole family in models/: give its folder, results/…/dpa/clean/k50d1.")
    return newest


def _time(paths: list[Path]) -> float:
    return max(path.stat().st_mtime for path in paths)


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
