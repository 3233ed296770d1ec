"""IBM's Adversarial Robustness Toolbox (ART): imported late, and made to leave nothing behind.

`import art` loads all of it whatever is asked for, scikit-learn, scipy.stats and pandas included: 1 to 2 seconds.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache, partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mithridate.models.registry import class_logits
from mithridate.training.plain import seeded
from mithridate.training.stack import keep_channels_last


class ClassLogits(nn.Module):
    """A network of which a single output stands for two classes (see models.registry.class_logits)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return class_logits(self.network(x))


@cache
def import_art() -> None:
    """Import ART with a home of its own for that moment.

    It writes ~/.art/config.json when it is imported first, which jobs that start together may find half-written and
    fail; nothing that is used here reads it. The bars of its adversarial trainer, which has no switch for them, go off.
    """
    home = os.environ.get("HOME")
    with TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        try:
            from art.defences.trainer import adversarial_trainer
        finally:
            if home is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = home
    for name in ("tqdm", "trange"):
        setattr(adversarial_trainer, name, partial(getattr(adversarial_trainer, name), disable=True))


def attackable(network: nn.Module, shape: tuple[int, ...], device: str = "cpu") -> Any:
    """ART's classifier of a copy of a network from images [B,*shape] in [0, 1] to logits, in evaluation mode."""
    copy = keep_channels_last(deepcopy(network)).to(device).eval().requires_grad_(False)
    return classifier(ClassLogits(copy), shape, device)


def classifier(network: nn.Module, shape: tuple[int, ...], device: str, optimiser: Any = None) -> Any:
    """ART's classifier of this very network, which ART switches between training and evaluation."""
    import_art()
    from art.estimators.classification import PyTorchClassifier

    with torch.no_grad():
        classes = network.eval()(torch.zeros(1, *shape, device=device)).shape[1]
    return PyTorchClassifier(
        model=network,
        loss=nn.CrossEntropyLoss(),
        optimizer=optimiser,
        input_shape=shape,
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type="cpu" if device == "cpu" else "gpu",
    )


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """float32 [n,classes]: ART takes numbers of two classes for something else."""
    return np.eye(classes, dtype=np.float32)[labels]


@contextmanager
def global_generators(seed: int, device: str) -> Iterator[None]:
    """NumPy's and PyTorch's global generators, which ART draws from, start at the seed and are put back afterwards."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed % (1 << 32))  # noqa: NPY002
    try:
        with seeded(seed, device):
            yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
