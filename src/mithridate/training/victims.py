"""Victims of randomized smoothing: networks trained from scratch on one clean or poisoned training set.

Member i of every training set has the same initialisation, batches and noise, so that a victim and its twin on other
data differ by what the poison did alone.
"""

from pathlib import Path

import numpy as np

from mithridate.errors import InputError
from mithridate.options.smoothing import MacerOptions, Procedure, ProcedureOptions, SmoothAdvOptions
from mithridate.progress import Progress
from mithridate.training.family import Family, train_family
from mithridate.training.flags import DIVERGED, FITTED, RETRAINED, UNFITTABLE
from mithridate.training.procedure import Noising
from mithridate.training.recipe import Recipe
from mithridate.training.subset import Subset

TRIES = 3  # trainings of a victim that diverges


def noising(procedure: Procedure, sigma: float, constants: ProcedureOptions) -> Noising:
    """A procedure at one noise level; constants are the options of this very procedure."""
    if isinstance(constants, MacerOptions):
        how = constants
        return Noising(procedure, sigma, how.draws, weight=how.weight, beta=how.beta, gamma=how.gamma)
    if isinstance(constants, SmoothAdvOptions):
        epsilon, steps, warmup = constants.epsilon, constants.steps, constants.warmup_epochs
        return Noising(procedure, sigma, epsilon=epsilon, steps=steps, warmup_epochs=warmup)
    return Noising(procedure, sigma)


def train_victims(
    images: np.ndarray,
    labels: np.ndarray,
    seeds: int,
    recipe: Recipe,
    *,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> Family:
    """Victims 0 to seeds − 1 of images float32 [n,C,H,W] in [0, 1], with labels int64 [n].

    A victim whose training diverges is trained again from other random numbers, which costs it its twin. Raises
    InputError where it diverges three times, and where the network cannot be fitted to such images.
    """
    channels = recipe.shape[0]
    members = [Subset(n, images, labels, np.zeros(channels), np.ones(channels)) for n in range(seeds)]
    family = train_family(members, recipe, checkpoints=checkpoints, progress=progress)
    if (family.flags == UNFITTABLE).any():
        raise InputError(f"smoothing.model: {recipe.model} cannot be fitted to these images; choose another model.")
    for again in range(1, TRIES):
        broken = np.flatnonzero(family.flags == DIVERGED)
        if not len(broken):
            return family
        print(f"victims {broken.tolist()} diverged: trained again from other random numbers ({again})", flush=True)
        retrained = train_family([members[n] for n in broken], recipe, boost=again, checkpoints=checkpoints)
        family = _replaced(family, broken, retrained)
        family.flags[broken[retrained.flags == FITTED]] = RETRAINED
    if (family.flags == DIVERGED).any():
        raise InputError(
            f"smoothing.training: the training of a victim diverged {TRIES} times; lower its learning_rate (now"
            f" {recipe.options.learning_rate:g}) or macer.weight, or mend {recipe.model} if its outputs are no numbers."
        )
    return family


def _replaced(family: Family, rows: np.ndarray, by: Family) -> Family:
    arrays = {name: np.array(value) for name, value in vars(family).items() if name != "tensors"}
    for name, array in arrays.items():
        array[rows] = getattr(by, name)
    tensors = {name: np.array(tensor) for name, tensor in family.tensors.items()}
    for name, tensor in tensors.items():
        tensor[rows] = by.tensors[name]
    return Family(tensors, **arrays)
