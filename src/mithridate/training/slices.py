"""Slices of a family: which members a job trains, and the file it leaves."""

from pathlib import Path
from typing import Any

from mithridate.artefacts import read_safetensors, write_safetensors
from mithridate.errors import InputError
from mithridate.training.family import Family
from mithridate.training.recipe import Recipe

OWN = "mithridate."  # prefix of what is not a parameter or buffer


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


def write_slice(path: str | Path, family: Family, recipe: Recipe, provenance: dict[str, Any]) -> None:
    """Stacked tensors [members, ...], subset numbers, flags and losses; the recipe in the metadata."""
    own = {"subset_ids": family.subset_ids, "flags": family.flags, "losses": family.losses}
    tensors = {**family.tensors, **{OWN + name: array for name, array in own.items()}}
    write_safetensors(path, tensors, {"recipe": recipe.describe()}, provenance)


def read_slice(path: str | Path) -> tuple[Family, dict[str, Any]]:
    """The family members of a slice and their recipe as plain values. Raises InputError for a damaged file."""
    tensors, metadata = read_safetensors(path)
    try:
        own = {name: tensors.pop(OWN + name) for name in ("subset_ids", "flags", "losses")}
        family, recipe = Family(tensors, own["subset_ids"], own["flags"], own["losses"]), metadata["recipe"]
    except KeyError as error:
        raise InputError(
            f"{path} holds no slice of a family ({error} is missing): delete it and make it again."
        ) from error
    if any(len(tensor) != len(family.subset_ids) for tensor in tensors.values()):
        raise InputError(f"{path} is inconsistent (member counts differ): delete it and make it again.")
    return family, recipe
