"""The three losses of data generating networks.

Source: "Improving Robustness of Deep Learning Systems with Fast and Customizable Adversarial Data Generation"
(DeepCustom). All are losses [G] of G generators side by side for originals x and what they make of them, x̃, both
[G,B,C,H,W] in [0, 1]: generator g's is a mean over its own batch alone, so that the gradient of the sum is, member by
member, that of each. x̃ is what a generator puts out, not yet clipped to the ε-ball.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mithridate.adversarial.target import Target
from mithridate.errors import InputError
from mithridate.options.dgn import GeneratorOptions


def make_loss(
    options: GeneratorOptions,
    network: nn.Module,
    classes: Tensor,
    epsilon: float,
    *,
    relevant: np.ndarray | None = None,
    suspicious: Mapping[str, np.ndarray] | None = None,
) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of the options for generators of `classes` int64 [G], on the device that those are on.

    network: the target, nn.Sequential from images to logits; a frozen copy is made. relevant: bool [classes,C,H,W] of
    all classes (custom_loss: lrp), see relevance.relevant_pixels. suspicious: bool [classes, units] by layer
    (suspiciousness), see suspicious.suspicious_masks. Raises InputError for masks of another target.
    """
    target = Target(network, classes.device)
    if options.custom_loss == "nce":
        if int(classes.max()) >= target.outputs:
            raise InputError(
                f"the target has {target.outputs} outputs, too few for class {int(classes.max())}: take another."
            )
        return partial(nce_loss, target=target, classes=classes)
    own = classes.cpu().numpy()
    if options.custom_loss == "lrp":
        if relevant is None:
            raise TypeError("the LRP loss needs the relevant pixels")
        mask = torch.from_numpy(relevant[own]).to(classes.device)
        return partial(lrp_loss, relevant=mask, epsilon=epsilon, alpha=options.alpha)
    if suspicious is None:
        raise TypeError("the suspiciousness loss needs the suspicious units")
    if {layer: mask.shape[1] for layer, mask in suspicious.items()} != target.units:
        raise InputError("the suspicious units are those of another target: find them again.")
    masks = {layer: torch.from_numpy(mask[own]).to(classes.device) for layer, mask in suspicious.items()}
    return partial(suspiciousness_loss, target=target, suspicious=masks, alpha=options.alpha, gamma=options.gamma)


def lrp_loss(x: Tensor, generated: Tensor, *, relevant: Tensor, epsilon: float, alpha: float) -> Tensor:
    """α · mean over relevant i of ((xᵢ − ε) − x̃ᵢ)² + (1 − α) · mean over the others of ((xᵢ + ε) − x̃ᵢ)²: losses [G].

    relevant: bool [G,C,H,W]. A part without pixels is 0.
    """
    rows = relevant.flatten(1)
    many = rows.sum(1, keepdim=True)
    weights = torch.where(rows, alpha / many.clamp(min=1), (1 - alpha) / (rows.shape[1] - many).clamp(min=1))
    moved = x + torch.where(relevant, -epsilon, epsilon)[:, None]
    return ((moved - generated).square().mean(1).flatten(1) * weights).sum(1)


def nce_loss(x: Tensor, generated: Tensor, *, target: Target, classes: Tensor) -> Tensor:
    """mean (x̃ − x)² − cross-entropy of the target at x̃ for the true class (in nats), not bounded below: losses [G].

    classes: int64 [G].
    """
    count, size = generated.shape[:2]
    logits = target.network(generated.flatten(0, 1))
    entropy = F.cross_entropy(logits, classes.repeat_interleave(size), reduction="none")
    return _mean_square(x, generated) - entropy.view(count, size).mean(1)


def suspiciousness_loss(
    x: Tensor,
    generated: Tensor,
    *,
    target: Target,
    suspicious: Mapping[str, Tensor],
    alpha: float,
    gamma: float,
) -> Tensor:
    """α · E[½ Σ over suspicious n of (aₙ(x) − aₙ(x̃)) + γ Σ over the others of |aₙ(x) − aₙ(x̃)|] + (1 − α) · mean
    (x̃ − x)²: losses [G]. E is the mean over the batch, a the output before the ReLU.

    suspicious: bool [G, units] by hidden layer. Of a feature map, one term of the sum, the difference (or its absolute
    value) is the mean over the map's neurons, as in the published code.
    """
    shape = generated.shape[:2]
    with torch.no_grad():
        before, _ = target.activations(x.flatten(0, 1))
    after, _ = target.activations(generated.flatten(0, 1))
    total = torch.zeros(len(x), device=x.device)
    for layer, mask in suspicious.items():
        change = (before[layer] - after[layer]).unflatten(0, shape)
        terms = torch.where(mask[:, None, :, None], change / 2, gamma * change.abs())
        total = total + terms.mean(3).sum(2).mean(1)
    return alpha * total + (1 - alpha) * _mean_square(x, generated)


def _mean_square(x: Tensor, generated: Tensor) -> Tensor:
    return (generated - x).square().flatten(1).mean(1)
