"""Slices of a family: which members a job trains, and the file it leaves."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mithridate.artefacts import read_safetensors, write_safetensors
from mithridate.errors import InputError
from mithridate.training.checkpoints import Trained
from mithridate.training.family import Family, members_by_key
from mithridate.training.recipe import Recipe

OWN = "mithridate."  # prefix of what is not a parameter or buffer
OWN_NAMES = ("subset_ids", "flags", "losses", "keys")


def slice_members(count: int, width: int, name: str) -> range:
    """The members of slice `name`, "2-of-8": whole tiles of `width` members, as even as can be.

    Raises InputError where there are more slices than tiles.
    """
    number, slices = (int(part) for part in name.split("-of-"))
    tiles = -(-count // width)
    if not 1 <= number <= slices <= tiles:
        raise InputError(
            f"slice {name} does not exist: {count} members in tiles of {width} make at most {tiles} slices"
            " (--set-scatter)."
        )
    first, last = tiles * (number - 1) // slices, tiles * number // slices
    return range(first * width, min(last * width, count))


def boost_of(ending: str) -> int:
    """The boost seed in a slice's file name: 0 for "", 2 for "-seed2"."""
    return int(ending.removeprefix("-seed") or 0)


def read_known(paths: Sequence[str | Path]) -> dict[str, Trained]:
    """The members of another family's slices by the key under which `train_family` takes them over."""
    known: dict[str, Trained] = {}
    for path in paths:
        known |= members_by_key(read_slice(path)[0])
    return known


def write_slice(path: str | Path, family: Family, recipe: Recipe, provenance: dict[str, Any]) -> None:
    """Stacked tensors [members, ...], subset numbers, flags, losses and keys; the recipe in the metadata."""
    own = {name: getattr(family, name) for name in OWN_NAMES}
    tensors = {**family.tensors, **{OWN + name: array for name, array in own.items()}}
    write_safetensors(path, tensors, {"recipe": recipe.describe()}, provenance)


def read_slice(path: str | Path) -> tuple[Family, dict[str, Any]]:
    """The family members of a slice and their recipe as plain values. Raises InputError for a damaged file."""
    tensors, metadata = read_safetensors(path)
    try:
        own = {name: tensors.pop(OWN + name) for name in OWN_NAMES}
        family, recipe = Family(tensors, **own), metadata["recipe"]
    except KeyError as error:
        raise InputError(
            f"{path} holds no slice of a family ({error} is missing): delete it and make it again."
        ) from error
    if any(len(tensor) != len(family.subset_ids) for tensor in tensors.values()):
        raise InputError(f"{path} is inconsistent (member counts differ): delete it and make it again.")
    return family, recipe


def read_slices(paths: Sequence[str | Path]) -> tuple[Family, dict[str, Any]]:
    """A whole family from all its slices, members in order of their numbers. Raises InputError where a member is
    missing or stands twice."""
    families, recipes = zip(*(read_slice(path) for path in paths), strict=True)
    ids = np.concatenate([family.subset_ids for family in families])
    order = np.argsort(ids)
    if not np.array_equal(ids[order], np.arange(len(ids))) or any(recipe != recipes[0] for recipe in recipes):
        raise InputError(f"{paths[0]} and its neighbours are not one whole family: delete them and run again.")

    def join(arrays: Iterable[np.ndarray]) -> np.ndarray:
        return np.concatenate(list(arrays))[order]

    tensors = {name: join(family.tensors[name] for family in families) for name in families[0].tensors}
    own = {name: join(getattr(family, name) for family in families) for name in OWN_NAMES}
    return Family(tensors, **own), recipes[0]
