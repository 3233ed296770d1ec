"""From the data room's artefacts to what the trainer takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mithridate.data.dataset import Header, load_header, load_images, load_labels
from mithridate.data.partition import Subsets, load_subsets
from mithridate.errors import InputError
from mithridate.options.training import TrainingOptions
from mithridate.training.procedure import Noising
from mithridate.training.recipe import Recipe, resolve
from mithridate.training.subset import Subset, members_of


@dataclass(frozen=True)
class Inputs:
    """A data set and its subsets on disk; images are read only when a member is trained."""

    header: Header
    subsets: Subsets
    data: str | Path

    def members(self, numbers: Sequence[int]) -> list[Subset]:
        """The subsets of these numbers, each in content order."""
        images, labels = load_images(self.data, "train"), load_labels(self.data, "train")
        return members_of(numbers, self.subsets, images, labels)


def open_inputs(data: str | Path, subsets: str | Path) -> Inputs:
    """Raises InputError where a file is damaged or the subsets are not of this data set."""
    inputs = Inputs(load_header(data), load_subsets(subsets), data)
    if inputs.subsets.sha256 != inputs.header.sha256:
        raise InputError(f"{subsets} was made from other data than {data}: delete it and run again.")
    return inputs


def recipe_for(
    header: Header, training: dict[str, Any], *, model: str, seed: int, device: str, noising: Noising | None = None
) -> Recipe:
    """The recipe of the options `training` (plain values) for members shown images of a data set."""
    return resolve(
        TrainingOptions(**training),
        model=model,
        shape=header.shape,
        num_classes=header.num_classes,
        scale=header.scale,
        seed=seed,
        device=device,
        noising=noising,
    )
