"""Losses of the victims of randomized smoothing: differentiable, one number per image, as attackers need them.

All take `logits`, which maps images [n,C,H,W] to logits [n, classes], images [B,C,H,W] in [0, 1], labels int64 [B], and
noise as it is added to the images (its deviation is sigma). The published cost is the mean over the images. No
operation here is one that PyTorch runs nondeterministically on a card.

Sources: Mehra et al., CVPR 2021; Salman et al., NeurIPS 2019 (SmoothAdv); Zhai et al., ICLR 2020 (MACER).
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Logits = Callable[[Tensor], Tensor]

SQUEEZE = 1e-3  # keeps probabilities off 0 and 1, where their quantiles are infinite (a)


def gaussian_loss(logits: Logits, images: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
    """Training with Gaussian noise [B,C,H,W] (Cohen et al., ICML 2019): cross-entropy [B] of the noised images."""
    return F.cross_entropy(logits(images + noise), labels, reduction="none")


def smoothadv_loss(
    logits: Logits,
    images: Tensor,
    labels: Tensor,
    noise: Tensor,
    *,
    epsilon: float | Tensor,
    steps: int,
    search: Logits | None = None,
) -> Tensor:
    """Training on adversarial examples under noise [B,C,H,W] (Salman et al., with one noise): cross-entropy [B] of
    images + perturbation + noise, the noise being the one for which the perturbation was sought.

    The perturbation counts as a constant in derivatives, first and higher, by images as by weights. `search` is the
    network in the mode in which it is sought (Salman et al.: evaluation), by default `logits`.
    """
    change = perturbation(search or logits, images, labels, noise, epsilon=epsilon, steps=steps)
    return gaussian_loss(logits, images + change, labels, noise)


def perturbation(
    logits: Logits, images: Tensor, labels: Tensor, noise: Tensor, *, epsilon: float | Tensor, steps: int
) -> Tensor:
    """Adversarial change [B,C,H,W] of images within the L2 ball of radius epsilon (one number, or [B]) and [0, 1],
    without a gradient.

    From zero, `steps` steps of length 2ε/steps along the normalised gradient of the cross-entropy, each followed by
    clipping images to [0, 1] and the projection on the ball. Where the gradient is zero the image stays (Salman et al.
    step in a random direction there).
    """
    images = images.detach()
    radius = torch.as_tensor(epsilon, dtype=images.dtype, device=images.device).view(-1, *[1] * (images.ndim - 1))
    change = torch.zeros_like(images)
    for _ in range(steps):
        change.requires_grad_()
        with torch.enable_grad():
            loss = gaussian_loss(logits, images + change, labels, noise).sum()
        gradient = torch.autograd.grad(loss, change)[0].flatten(1)
        largest = gradient.abs().amax(1, keepdim=True)  # whose square may underflow in a network that is very sure
        direction = F.normalize(gradient / largest.clamp(min=torch.finfo(gradient.dtype).tiny)).view_as(images)
        change = (images + change.detach() + 2 * radius / steps * direction).clamp(0, 1) - images
        length = torch.linalg.vector_norm(change.flatten(1), dim=1).view(-1, *[1] * (images.ndim - 1))
        change = change * (radius / torch.maximum(length, radius))
    return change


def macer_loss(
    logits: Logits,
    images: Tensor,
    labels: Tensor,
    noise: Tensor,
    *,
    sigma: float,
    weight: float,
    beta: float,
    gamma: float,
    squeeze: float = SQUEEZE,
) -> Tensor:
    """MACER's loss [B] (Zhai et al., algorithm 1) over K noises [B,K,C,H,W].

    Cross-entropy of the mean softmax, and where the smoothed prediction is right and |ξ| ≤ γ also λσ/2 · (γ − ξ), with
    ξ = Φ⁻¹(p̃₁) − Φ⁻¹(p̃₂) of the mean of softmax(β · logits); λ is `weight`. Squeezing (Mehra et al.) stands for the
    public code's leaving out of infinite ξ; with a = 0.001, |ξ| is at most 6.2, so that γ = 8 leaves no image out.
    """
    drawn = drawn_logits(logits, images, noise)
    log_mean = drawn.log_softmax(2).logsumexp(1) - math.log(drawn.shape[1])
    margin, right = margin_of(soft_votes(drawn, beta), labels, squeeze)
    counts = right & (margin.detach().abs() <= gamma)
    return F.nll_loss(log_mean, labels, reduction="none") + torch.where(
        counts, weight * sigma / 2 * (gamma - margin), 0.0
    )


def drawn_logits(logits: Logits, images: Tensor, noise: Tensor) -> Tensor:
    """Logits [B,K,classes] of each image under each of its noises [B,K,C,H,W]; one image's stand together."""
    noised = images[:, None] + noise
    return logits(noised.flatten(0, 1)).unflatten(0, noised.shape[:2])


def soft_votes(drawn: Tensor, beta: float) -> Tensor:
    """Mean soft votes [B, classes]."""
    return (beta * drawn).softmax(2).mean(1)


def margin_of(votes: Tensor, labels: Tensor, squeeze: float) -> tuple[Tensor, Tensor]:
    """ξ [B] of the squeezed two largest votes, and whether the largest is the label's (bool [B])."""
    first, second = votes.topk(2, dim=1).indices.split(1, dim=1)
    classes = torch.arange(votes.shape[1], device=votes.device)
    squeezed = (1 - 2 * squeeze) * votes + squeeze
    # A mask and not gather, whose gradient is a scattered addition.
    top = [torch.where(classes == number, squeezed, 0.0).sum(1) for number in (first, second)]
    return torch.special.ndtri(top[0]) - torch.special.ndtri(top[1]), first[:, 0] == labels
