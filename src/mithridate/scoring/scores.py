"""The score matrix: logits of every test image under every member of a family."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mithridate.artefacts import write_hdf5
from mithridate.errors import InputError
from mithridate.models.registry import class_logits
from mithridate.options.dpa import ScoringOptions
from mithridate.progress import Progress
from mithridate.scoring.files import COUNTS
from mithridate.scoring.network import empty_network, fill
from mithridate.training.family import Family
from mithridate.training.flags import FITTED

COMPARED = 512  # test images scored in both precisions when bf16 is asked for


@dataclass(frozen=True)
class Scores:
    """scores float32 [n, members, classes]; how often bf16 changed an argmax among `compared`; ties of the two
    highest scores; rows that were not finite and count as all zero."""

    scores: np.ndarray
    changed_argmaxes: int
    compared: int
    ties: int
    not_finite: int


class Scorer:
    """Scores images uint8 [n,C,H,W] of one scale with one architecture, one member after another.

    The batch's shape is fixed (the last one is padded), because it changes bits; so does `options.precision`.
    """

    def __init__(
        self,
        images: np.ndarray,
        *,
        scale: float,
        model: str,
        num_classes: int,
        options: ScoringOptions,
        device: str,
    ) -> None:
        self.options, self.num_classes = options, num_classes
        shape = (images.shape[1], images.shape[2], images.shape[3])
        self.network = empty_network(model, shape, num_classes, device)
        if options.precision == "bf16":
            layers = list(self.network) if isinstance(self.network, nn.Sequential) else []
            if not layers or not isinstance(layers[-1], nn.Linear):
                raise InputError(
                    "dpa.scoring.precision: bf16 needs an nn.Sequential that ends in nn.Linear,"
                    f" and {model} is none: use fp32."
                )
        self.scale, self.device = scale, device
        self.show(images)

    def score(self, family: Family, mean: np.ndarray, std: np.ndarray, progress: Progress | None = None) -> Scores:
        """Score with every member; mean and std [members, C] are those of each member's own subset, or [members, C,H,W]
        one number a pixel."""
        result = np.zeros((self.count, len(family.subset_ids), self.num_classes), np.float32)
        changed = not_finite = compared = 0
        for position, flag in enumerate(family.flags):
            if flag == FITTED:  # any other member is the constant classifier: all-zero scores
                fill(self.network, family.member(position))
                scores = self._forward(self.images, mean[position], std[position], self.options.precision)[: self.count]
                if self.options.precision == "bf16":
                    sample = self.images[: -(-COMPARED // self.options.batch_size) * self.options.batch_size]
                    exact = self._forward(sample, mean[position], std[position], "fp32")[: self.count]
                    changed += int((exact.argmax(1) != scores[: len(exact)].argmax(1)).sum())
                    compared += len(exact)
                broken = ~np.isfinite(scores).all(1)
                scores[broken] = 0
                not_finite += int(broken.sum())
                result[:, position] = scores
            if progress is not None:
                progress.add(1)
        top = np.partition(result, -2, axis=2)[..., -2:]
        ties = int((top[..., 0] == top[..., 1])[:, family.flags == FITTED].sum())
        return Scores(result, changed, compared, ties, not_finite)

    def show(self, images: np.ndarray) -> None:
        """Take other images [n,C,H,W] of the same shape."""
        padded = np.zeros(
            (-(-len(images) // self.options.batch_size) * self.options.batch_size, *images.shape[1:]), np.uint8
        )
        padded[: len(images)] = images
        self.images, self.count = torch.from_numpy(padded).to(self.device), len(images)

    @torch.no_grad()
    def _forward(self, images: Tensor, mean: np.ndarray, std: np.ndarray, precision: str) -> np.ndarray:
        centre, spread = (
            torch.tensor(v, dtype=torch.float32, device=images.device).view(*v.shape, *[1] * (3 - v.ndim))
            for v in (mean, std)
        )
        logits = []
        for batch in images.split(self.options.batch_size):
            x = ((batch.float() * self.scale - centre) / spread).contiguous(memory_format=torch.channels_last)
            if precision == "fp32":
                logits.append(self.network(x))
            else:
                assert isinstance(self.network, nn.Sequential)
                with torch.autocast(images.device.type, torch.bfloat16):
                    features = self.network[:-1](x)
                logits.append(self.network[-1](features.float()))
        return class_logits(torch.cat(logits).float()).cpu().numpy()


def write_slice_scores(
    path: str | Path,
    family: Family,
    scores: Mapping[str, Scores],
    options: ScoringOptions,
    sha256: str,
    provenance: dict[str, Any],
    boost: int = 0,
) -> None:
    """Scores of one slice by the name of the test images, with what its members carry; sha256 is the data set's."""
    for name, one in scores.items() if options.precision == "bf16" else ():
        print(
            f"bf16 changed {one.changed_argmaxes} of {one.compared} compared votes on {name} test images; {one.ties}"
            " votes are ties of the two highest scores, which go to the smaller class"
        )
    counts = {name: {count: getattr(one, count) for count in COUNTS} for name, one in scores.items()}
    attributes = {**options.model_dump(), "counts": counts, "sha256": sha256, "boost": boost}
    arrays = {f"scores/{name}": one.scores for name, one in scores.items()}
    arrays |= {"subset_ids": family.subset_ids, "flags": family.flags, "losses": family.losses}
    write_hdf5(path, arrays, attributes, provenance)
