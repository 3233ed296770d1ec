"""What the bilevel attack on randomized smoothing drives down."""

import torch
from torch import Tensor

from mithridate.training.costs import Logits, drawn_logits, margin_of, soft_votes


def upper_cost(
    logits: Logits, images: Tensor, labels: Tensor, noise: Tensor, *, sigma: float, beta: float, squeeze: float
) -> Tensor:
    """What the attacker lowers [B]: the certified radius of an image under soft votes (Mehra et al., upper level).

    σ/2 · [Φ⁻¹(p̃₁) − Φ⁻¹(p̃₂)] where the smoothed prediction is right and 0 elsewhere; p̃ = (1 − 2a)p + a squeezes the two
    largest mean soft votes, softmax(β · logits) over K noises [B,K,C,H,W]. The largest value is σ·Φ⁻¹(1 − a).
    """
    margin, right = margin_of(soft_votes(drawn_logits(logits, images, noise), beta), labels, squeeze)
    return torch.where(right, sigma / 2 * margin, 0.0)
