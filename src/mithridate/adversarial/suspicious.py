"""Which hidden units of a network are active when it errs: spectra, Tarantula's score, the units chosen by it.

Source: Eniser, Gerasimou & Sen, "DeepFault: Fault Localization for Deep Neural Networks", FASE 2019, whose scores
DeepCustom's suspiciousness loss takes; Jones & Harrold, "Empirical Evaluation of the Tarantula Automatic
Fault-Localization Technique", ASE 2005. A *unit* is a neuron of a dense layer or a feature map of a convolution; layers
are named as in `target.Target`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mithridate.adversarial.target import CONV, DENSE, Target
from mithridate.data.checks import check_labels
from mithridate.errors import InputError
from mithridate.progress import Progress
from mithridate.repair.predict import batches, check_pairs, finite

COUNTS = ("af", "nf", "as", "ns")
NO_FAILURES, NO_SUCCESSES, TIE = "no failures", "no successes", "tie"


@dataclass(frozen=True, eq=False)
class Spectrum:
    """How often the neurons of a hidden layer were active (a) or not (n) on images that failed (f) or succeeded (s):
    counts int64 [4, classes, units, neurons of a unit], in the order of COUNTS."""

    layer: str
    counts: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """Score of each unit, the mean of its neurons': float64 [classes, units]."""
        return tarantula(*self.counts).mean(2)


@torch.no_grad()
def spectra(
    network: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    threshold: float = 0.0,
    scale: float = 1 / 255,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[Spectrum]:
    """Spectra of the hidden layers, of the images of each class apart, in the order of the data.

    network: nn.Sequential from images to logits, not changed. images: *training* images [n,C,H,W], uint8 taken times
    `scale` or float32 in [0, 1], with labels [n]; to take those that a network is judged by would be a leak. An image
    fails where its class is not predicted. A neuron is active where its output before the ReLU exceeds the threshold.
    `progress` counts images. Raises InputError for a class without images.
    """
    check_pairs(images, labels)
    check_labels("labels", labels, num_classes)
    for c in np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0):
        raise InputError(f"class {c} has no training images that its suspicious units could be found on: give some.")
    target = Target(network, device)
    target.check_outputs(num_classes)
    active: dict[str, Tensor] = {}  # [failed or not, classes, units, neurons]
    seen = torch.zeros(2, num_classes, dtype=torch.int64, device=device)
    start = 0
    for x, count in batches(images, scale, device):
        y = torch.from_numpy(labels[start : start + count].astype(np.int64)).to(device)
        start += count
        found, logits = target.activations(x)
        failed = finite(logits)[:count].argmax(1) != y
        groups = torch.stack([failed, ~failed])[:, :, None] * F.one_hot(y, num_classes)
        seen += groups.sum(1)
        members = groups.mT.flatten(0, 1).float()  # counts up to a batch are exact in float32
        for name, output in found.items():
            above = output[:count] > threshold
            counts = (members @ above.flatten(1).float()).long().view(2, num_classes, *above.shape[1:])
            active[name] = active[name] + counts if name in active else counts
        if progress is not None:
            progress.add(count)
    return [
        Spectrum(name, torch.stack([counts, seen[:, :, None, None] - counts], 1).flatten(0, 1).cpu().numpy())
        for name, counts in active.items()
    ]


def tarantula(af: np.ndarray, nf: np.ndarray, as_: np.ndarray, ns: np.ndarray) -> np.ndarray:
    """Tarantula's suspiciousness (af / (af + nf)) / (af / (af + nf) + as / (as + ns)), float64 in [0, 1] of any shape;
    0 where nothing failed, nothing succeeded, or the neuron is never active."""
    failing, succeeding = (a / np.maximum(a + n, 1) for a, n in ((af, nf), (as_, ns)))
    known = (af + nf > 0) & (as_ + ns > 0) & (af > 0)  # with af = 0 the score is 0 anyway
    return np.divide(failing, failing + succeeding, out=np.zeros(known.shape), where=known)


def suspicious_units(scores: Mapping[str, np.ndarray], k: int) -> dict[str, np.ndarray]:
    """The k most suspicious feature maps of every convolution, and the k most suspicious neurons of all hidden dense
    layers together, of equals those that come first: bool [classes, units] by layer, like the scores.

    Raises InputError where there are fewer than k.
    """
    chosen = {layer: np.zeros(own.shape, bool) for layer, own in scores.items()}
    for group in _groups(scores):
        together = np.concatenate([scores[layer] for layer in group], 1)
        if k > together.shape[1]:
            what = "feature maps of" if group[0].startswith(CONV) else "neurons of"
            raise InputError(
                f"k: {k} suspicious units are more than the {together.shape[1]} {what} {', '.join(group)}: choose a"
                " smaller k (custom_loss: suspiciousness)."
            )
        first = np.argsort(-together, axis=1, kind="stable")[:, :k]
        flat = np.zeros(together.shape, bool)
        np.put_along_axis(flat, first, True, axis=1)
        ends = np.cumsum([scores[layer].shape[1] for layer in group])[:-1]
        chosen |= dict(zip(group, np.split(flat, ends, 1), strict=True))
    return chosen


def tabulate(found: list[Spectrum], k: int) -> pd.DataFrame:
    """One row per class, layer and unit: class, layer, unit, neurons, af, nf, as, ns, score, suspicious, note.

    Of a feature map the counts are sums over its neurons, the score is the mean of theirs. note: "no failures" or "no
    successes" where the class has none, so that all its scores are 0 and the first k units are taken for want of better
    ones; "tie" for a suspicious unit that another one, not chosen, equals.
    """
    scores = {one.layer: one.scores for one in found}
    chosen = suspicious_units(scores, k)
    notes = _ties(scores, chosen)
    parts = []
    for one in found:
        classes, units, neurons = one.counts.shape[1:]
        sums = one.counts.sum(3)
        columns = {
            "class": np.repeat(np.arange(classes), units),
            "layer": one.layer,
            "unit": np.tile(np.arange(units), classes),
            "neurons": neurons,
            **{name: own.ravel() for name, own in zip(COUNTS, sums, strict=True)},
            "score": scores[one.layer].ravel(),
            "suspicious": chosen[one.layer].ravel(),
        }
        note = np.where(sums[0] + sums[1] == 0, NO_FAILURES, notes[one.layer])
        parts.append(pd.DataFrame(columns).assign(note=np.where(sums[2] + sums[3] == 0, NO_SUCCESSES, note).ravel()))
    return pd.concat(parts).sort_values("class", kind="stable", ignore_index=True)


def suspicious_masks(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """What a table says is suspicious: bool [classes, units] by layer. Raises InputError for one that is not whole."""
    try:
        masks = {
            str(layer): own.pivot(index="class", columns="unit", values="suspicious").to_numpy()
            for layer, own in table.groupby("layer", sort=False)
        }
    except (KeyError, ValueError) as error:  # a column is missing, a row stands twice
        raise InputError(f"the table of suspicious units is damaged ({error}): make it again.") from error
    if any(mask.dtype != bool or len(mask) != table["class"].nunique() for mask in masks.values()):
        raise InputError("the table of suspicious units lacks rows or values: make it again.")
    return masks


def _groups(scores: Mapping[str, np.ndarray]) -> list[list[str]]:
    """Layers whose units compete: every convolution alone, all dense ones together."""
    dense = [layer for layer in scores if layer.startswith(DENSE)]
    return [[layer] for layer in scores if layer.startswith(CONV)] + ([dense] if dense else [])


def _ties(scores: Mapping[str, np.ndarray], chosen: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """TIE at chosen units that equal the best one not chosen of their group, "" elsewhere: [classes, units]."""
    notes = {}
    for group in _groups(scores):
        best = np.max([np.where(chosen[layer], -1, scores[layer]).max(1) for layer in group], 0)
        for layer in group:
            notes[layer] = np.where(chosen[layer] & (scores[layer] == best[:, None]), TIE, "")
    return notes
