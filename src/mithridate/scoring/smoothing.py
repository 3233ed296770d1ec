"""Noise counts of randomized smoothing: how often one trained network predicts each class under noise on a test image.

Source: Cohen, Rosenfeld & Kolter, "Certified Adversarial Robustness via Randomized Smoothing", ICML 2019, procedures
SAMPLEUNDERNOISE and CERTIFY. The noises of an image are named by (selection or estimation, seed, index of the test
image, chunk): what the network says of them depends on that image alone, not on which others stand beside it, in
which order, or how many noises are asked for. Selection and estimation share none.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mithridate.certify.anytime import Sequential, sequential_rows
from mithridate.certify.smoothing import check_samples, example_rows
from mithridate.errors import InputError
from mithridate.models.registry import class_logits
from mithridate.noise import gaussian
from mithridate.options.smoothing import CertifyOptions
from mithridate.progress import Progress
from mithridate.scoring.network import empty_network, fill

Kind = Literal["smoothing select", "smoothing estimate"]
SELECT: Kind = "smoothing select"
ESTIMATE: Kind = "smoothing estimate"
BATCH = 100  # noised copies that pass through the network at once on a CPU, and after which stopping early looks
SMALL = 256  # pixels of images of which a CPU takes a whole chunk at once (benchmarks/smoothing.py)


class Counter:
    """Counts the predictions of one trained network under noise N(0, sigma²) on every pixel, images in [0,1].

    tensors: the parameters and buffers of one member of a family. chunk: noises drawn by one generator, part of their
    name; batch_size: shape of the network's batches, which may change last bits and so a close prediction (None: BATCH
    for larger images on a CPU, otherwise the whole chunk). The last chunk is drawn and the last batch computed whole,
    then cut, so that results depend on neither's fill.
    """

    def __init__(
        self,
        tensors: Mapping[str, np.ndarray],
        shape: tuple[int, int, int],
        *,
        model: str,
        num_classes: int,
        scale: float,
        sigma: float,
        seed: int,
        device: str,
        chunk: int,
        batch_size: int | None = None,
    ) -> None:
        if batch_size is None:
            batch_size = BATCH if device == "cpu" and shape[1] * shape[2] > SMALL else chunk
        if not 0 < sigma < np.inf or chunk < 1 or batch_size < 1:
            raise InputError(f"sigma = {sigma}, chunk = {chunk}, batch = {batch_size}: all must be positive.")
        self.network = empty_network(model, shape, num_classes, device)
        fill(self.network, tensors)
        self.shape, self.model, self.num_classes = shape, model, num_classes
        self.scale, self.sigma, self.seed, self.device = scale, sigma, seed, device
        self.chunk, self.batch_size = chunk, batch_size

    def counts(
        self,
        kind: Kind,
        images: np.ndarray,
        indices: Sequence[int] | np.ndarray,
        draws: int,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """How often each class was predicted under noises 0..draws−1 of each image: int64 [n, classes].

        images: uint8 [n,C,H,W], taken times `scale`, or float32 in [0,1]; indices [n]: their positions in the test
        set. At ties of logits the smaller class counts. Raises InputError for images of another shape or outside
        [0,1] and for outputs that are not finite.
        """
        result = np.zeros((len(images), self.num_classes), np.int64)
        for row, (image, index) in enumerate(self._each(images, indices)):
            votes = torch.cat(list(self._votes(kind, image, index, draws, self.batch_size)))
            total = torch.bincount(votes, minlength=self.num_classes + 1).cpu().numpy()
            self._check(int(total[self.num_classes]), index)
            result[row] = total[: self.num_classes]
            if progress is not None:
                progress.add(1)
        return result

    def decide(
        self,
        images: np.ndarray,
        indices: Sequence[int] | np.ndarray,
        selected: np.ndarray,
        rule: Sequential,
        progress: Progress | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Estimation that looks after every batch and stops when the rule has decided: for each image how often its
        selected class [n] was predicted, and among how many noises; both int64 [n]. Otherwise as `counts`."""
        n_a, n = np.zeros((2, len(images)), np.int64)
        for row, (image, index) in enumerate(self._each(images, indices)):
            for votes in self._votes(ESTIMATE, image, index, rule.n, min(BATCH, self.batch_size)):
                self._check(int((votes == self.num_classes).sum()), index)
                n[row] += len(votes)
                n_a[row] += int((votes == int(selected[row])).sum())
                if rule.decided(n_a[row], n[row]):
                    break
            if progress is not None:
                progress.add(1)
        return n_a, n

    def _each(self, images: np.ndarray, indices: Sequence[int] | np.ndarray) -> Iterator[tuple[Tensor, int]]:
        """Images [C,H,W] in [0,1] on the device, with their positions in the test set."""
        if images.shape[1:] != self.shape or len(images) != len(indices):
            raise InputError(
                f"{len(indices)} test images of shape {self.shape} are to be counted, but the array's shape is"
                f" {images.shape}: give [n,C,H,W] and one index per image."
            )
        for image, index in zip(images, indices, strict=True):
            values = torch.from_numpy(np.array(image)).to(self.device)
            if image.dtype == np.uint8:
                values = values * self.scale
            elif image.dtype != np.float32 or not bool(((values >= 0) & (values <= 1)).all()):
                raise InputError(
                    f"test image {index} is {image.dtype} and not in [0,1]: give uint8 or float32 within [0,1]."
                )
            yield values, int(index)

    def _votes(self, kind: Kind, image: Tensor, index: int, draws: int, batch: int) -> Iterator[Tensor]:
        """Predicted classes under noises 0..draws−1, batch by batch; num_classes stands for an output that is none."""
        channels, height, width = self.shape
        left = draws
        for chunk in count():
            name = (kind, self.seed, index, chunk)
            noise = gaussian((self.chunk, height, width, channels), *name, device=self.device).permute(0, 3, 1, 2)
            for part in noise.split(batch):
                yield self._predict(part.mul_(self.sigma).add_(image))[:left]
                left -= len(part)
                if left <= 0:
                    return

    @torch.inference_mode()
    def _predict(self, batch: Tensor) -> Tensor:
        logits = class_logits(self.network(batch))
        classes = logits.argmax(1)  # the first of equal ones
        return torch.where(torch.isfinite(logits).all(1), classes, self.num_classes)

    def _check(self, not_finite: int, index: int) -> None:
        if not_finite:
            raise InputError(
                f"the network {self.model} gives outputs that are not finite for test image {index} under noise: its"
                " training diverged or its code is wrong: lower the learning rate, or mend it."
            )


def certify(
    counter: Counter,
    images: np.ndarray,
    labels: np.ndarray,
    indices: np.ndarray,
    options: CertifyOptions,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row per test image, see certify.smoothing.example_rows; `progress` counts images.

    With options.sequential each image stops as soon as its certificate at options.stop_radius is decided, see
    certify.anytime.sequential_rows; n says after how many noises. Raises InputError before any noise is drawn where
    options.n certifies nothing, and as Counter.counts does.
    """
    if options.sequential:
        rule = Sequential(n=options.n, sigma=counter.sigma, alpha=options.alpha, radius=options.stop_radius)
        selected = counter.counts(SELECT, images, indices, options.n0).argmax(1)
        n_a, n = counter.decide(images, indices, selected, rule, progress)
        return sequential_rows(rule, selected, n_a, n, labels, indices)
    check_samples(options.n, counter.sigma, options.alpha)
    selection = counter.counts(SELECT, images, indices, options.n0)
    estimation = counter.counts(ESTIMATE, images, indices, options.n, progress)
    return example_rows(selection, estimation, labels, indices, sigma=counter.sigma, alpha=options.alpha)
