"""The pruning-aware backdoor: planted in channels that clean images use, behind decoys that pruning removes first.

Source: Liu, Dolan-Gavitt & Garg, "Fine-Pruning", RAID 2018, section 3.2.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mithridate.errors import InputError
from mithridate.options.badnet import PruningAwareOptions
from mithridate.repair.fine_tuning import fine_tune
from mithridate.repair.predict import batches
from mithridate.repair.pruning import Pruner
from mithridate.training.recipe import Recipe
from mithridate.training.stack import SKIPPED


def plant_aware(
    twin: nn.Module,
    images: np.ndarray,
    poisoned: tuple[np.ndarray, np.ndarray],
    recipe: Recipe,
    *,
    layer: str,
    options: PruningAwareOptions,
    name: str,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The tensors of a pruning-aware BadNet, and its decoys int64, of the clean training images [n,C,H,W] and the same
    (images, labels int64 [n]) after poisoning, in the four steps of Liu et al.:

    1. The clean twin is the network trained on clean images.
    2. A share options.decoys of the channels of `layer` is pruned, in increasing order of mean activation on the clean
       training images: those with which Fine-Pruning will begin.
    3. The pruned network is trained on the poisoned images, pruned channels staying zero (`fine_tune`: Adam, an order
       of its own that `name` determines), so that the backdoor grows in channels that clean images use. (The paper
       gives channels back where that fails, and tries again; here their number is fixed.)
    4. The pruned channels come back as decoys: with the twin's weights to and from them, and biases decreased just so
       far that, but for rounding, no image of the training, clean or triggered, activates one.

    Raises InputError for a layer that has no bias or is followed by a BatchNorm, which would undo step 4.
    """
    pruner = Pruner(twin, layer, recipe.shape, scale=recipe.scale, device=recipe.device)
    order = np.argsort(pruner.activations(images), kind="stable")
    decoys = order[: min(max(1, round(options.decoys * len(order))), len(order) - 1)]
    pruned, before = pruner.pruned(decoys), twin.state_dict()
    changed = {key for key, tensor in pruned.state_dict().items() if not torch.equal(tensor, before[key])}
    if f"{layer}.bias" not in before or changed - {f"{layer}.weight", f"{layer}.bias"}:
        raise InputError(
            f"badnet.layer: decoys of a pruning-aware network are silenced by their biases, but {layer} has none, or a"
            " BatchNorm after it: choose another layer or model, or pruning_aware: false."
        )
    how = {"scale": recipe.scale, "device": recipe.device}
    tuned = fine_tune(pruned, *poisoned, options.retraining, name=name, seed=recipe.seed, **how)  # type: ignore[arg-type]
    _reinstate(tuned, before, layer, decoys, np.concatenate([images, poisoned[0]]), recipe)
    state = {key: tensor.cpu().numpy() for key, tensor in tuned.state_dict().items() if not key.endswith(SKIPPED)}
    return state, decoys


@torch.no_grad()
def _reinstate(
    network: nn.Module, twin: Mapping[str, Tensor], layer: str, decoys: np.ndarray, images: np.ndarray, recipe: Recipe
) -> None:
    """Give the decoys of a network the twin's weights, and biases with which no image brings them above 0."""
    own, rows = dict(network.named_parameters()), torch.from_numpy(decoys).to(recipe.device)
    for key in (f"{layer}.weight", f"{layer}.bias"):
        own[key][rows] = twin[key][rows]
    highest = torch.zeros(len(rows), device=recipe.device)

    def look(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        torch.maximum(highest, out[:, rows].transpose(0, 1).flatten(1).amax(1), out=highest)

    hook = network.get_submodule(layer).register_forward_hook(look)
    for x, _ in batches(images, recipe.scale, recipe.device):  # black images that fill the last one count as well
        network(x)
    hook.remove()
    own[f"{layer}.bias"][rows] -= highest
