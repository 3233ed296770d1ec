"""Which pixels a class is recognised by: layer-wise relevance propagation (LRP) of its logit.

Source: Bach et al., "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance
Propagation", PLOS ONE 2015. DeepCustom's LRP loss takes the k most relevant pixels of a class.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mithridate.adversarial.target import Target
from mithridate.data.checks import check_labels, shape_text
from mithridate.errors import InputError
from mithridate.progress import Progress
from mithridate.repair.predict import batches, check_pairs, finite
from mithridate.torchvision_shim import import_torchvision

STABILISER = 1e-6  # keeps denominators from zero; too small to swallow relevance
PLAIN = (
    *(nn.Linear, nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d),
    *(nn.ReLU, nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d),
)


def class_relevance(
    network: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    scale: float = 1 / 255,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Relevance of pixels for the true class's logit, mean over the correctly classified images of each class: float64
    [classes,C,H,W], in units of the logit; and the number of those images, int64 [classes].

    network: nn.Sequential from images to logits, not changed. images: *training* images [n,C,H,W], uint8 taken times
    `scale` or float32 in [0, 1], with labels [n]. `progress` counts images.

    Rules: ε (10⁻⁶) for dense layers and z⁺ (α = 1, β = 0) for convolutions, the composite that Kohlbrenner et al.
    ("Towards Best Practice in Explaining Neural Network Decisions with LRP", IJCNN 2020) recommend: the plain ε rule is
    gradient × input, which is noisy in convolutions. No rule of its own for pixels (their flat rule, or zᴮ): so a
    pixel's relevance is in proportion to its value, and what is relevant can be taken away. Both rules conserve: an
    image's relevance adds up to its logit but for the stabiliser and what biases absorb. Max pooling passes relevance
    to the winner, BatchNorm is merged into the layer before it.

    Raises InputError for a class without a correctly classified image, and for layers without a rule.
    """
    check_pairs(images, labels)
    check_labels("labels", labels, num_classes)
    target = Target(network, device)
    target.check_outputs(num_classes)
    if unknown := {type(module).__name__ for module in target.layers if not _has_rule(module)}:
        raise InputError(
            f"the target has layers that relevance propagation has no rule for here ({', '.join(sorted(unknown))}):"
            " choose another target, or leave custom_loss: lrp out."
        )
    gradient, composite = _zennit()
    total = torch.zeros(num_classes, int(np.prod(images.shape[1:])), dtype=torch.float64, device=device)
    counts = torch.zeros(num_classes, dtype=torch.int64, device=device)
    start = 0
    with gradient(target.network, composite) as attribute:
        for x, count in batches(images, scale, device):
            y = torch.zeros(len(x), dtype=torch.int64, device=device)
            y[:count] = torch.from_numpy(labels[start : start + count].astype(np.int64))
            start += count
            true = F.one_hot(y, num_classes)
            logits, relevance = attribute(x, lambda logits, true=true: logits * true)
            right = finite(logits).argmax(1) == y
            right[count:] = False  # with which the batch is filled up
            chosen = true * right[:, None]
            total += chosen.T.double() @ relevance.flatten(1).double()
            counts += chosen.sum(0)
            if progress is not None:
                progress.add(count)
    for c in torch.nonzero(counts == 0).flatten().tolist():
        raise InputError(
            f"class {c} has no training image that the target classifies correctly, so that none shows its relevant"
            " pixels: give such images, or train the target longer."
        )
    mean = (total / counts[:, None]).cpu().numpy().reshape(num_classes, *images.shape[1:])
    return mean, counts.cpu().numpy()


def relevant_pixels(relevance: np.ndarray, k: int) -> np.ndarray:
    """The k most relevant pixels of each class, of equals those with the lower index: bool [classes,C,H,W].

    A pixel of each channel counts by itself. Raises InputError where an image has fewer than k.
    """
    flat = relevance.reshape(len(relevance), -1)
    if k > flat.shape[1]:
        raise InputError(
            f"k: {k} relevant pixels are more than the {flat.shape[1]} of an image ({shape_text(relevance.shape[1:])}):"
            " choose a smaller k (custom_loss: lrp)."
        )
    chosen = np.zeros(flat.shape, bool)
    np.put_along_axis(chosen, np.argsort(-flat, axis=1, kind="stable")[:, :k], True, axis=1)
    return chosen.reshape(relevance.shape)


def _has_rule(module: nn.Module) -> bool:
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return module.affine and module.track_running_stats  # what can be merged
    return isinstance(module, PLAIN)


def _zennit() -> tuple[Any, Any]:
    """zennit's attribution and a composite; imported here because it takes torchvision along."""
    import_torchvision()  # first, as zennit's own import of it fails beside a CPU build of PyTorch
    from zennit.attribution import Gradient
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import EpsilonPlus

    merge = [SequentialMergeBatchNorm()]
    return Gradient, EpsilonPlus(epsilon=STABILISER, stabilizer=STABILISER, canonizers=merge)
