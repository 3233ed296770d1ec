"""RAB's noised networks as one family, against one network after another in plain PyTorch.

    python benchmarks/rab.py [--models 100] [--mnist FOLDER]

The same task (digits, 1 against 0), noise, network, optimiser, batches and epochs on one thread each. With --mnist the
published network on MNIST (1 against 0), of which a few are trained for one epoch.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from mithridate import device
from mithridate.data.classes import select_classes
from mithridate.data.sources import load_source
from mithridate.models.registry import builder, initialise
from mithridate.options.data import DataOptions
from mithridate.options.rab import RabOptions
from mithridate.options.training import TrainingOptions
from mithridate.streams import Stream
from mithridate.training.family import train_family
from mithridate.training.noised import noised_copies
from mithridate.training.recipe import resolve
from mithridate.training.subset import Subset

SIGMA, PAIR = 0.5, [1, 0]


def plain_loop(copies: list[Subset], labels: np.ndarray, model: str, training: TrainingOptions) -> None:
    """One network after another, as one writes it: torch.optim.Adam, binary cross-entropy, shuffled batches."""
    y = torch.from_numpy(labels).float()
    for copy in copies:
        x = torch.from_numpy(np.asarray(copy.images))
        network = initialise(builder(model), tuple(x.shape[1:]), 2, Stream("loop", copy.number))  # type: ignore[arg-type]
        optimiser, loss = torch.optim.Adam(network.parameters(), lr=training.learning_rate), nn.BCEWithLogitsLoss()
        for _ in range(training.epochs or 0):
            for rows in torch.randperm(len(x)).split(training.batch_size):
                optimiser.zero_grad()
                loss(network(x[rows])[:, 0], y[rows]).backward()
                optimiser.step()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(name: str, dataset: str, root: str | None, models: int, model: str, training: TrainingOptions) -> None:
    data = select_classes(load_source(dataset, DataOptions(root=root)), PAIR)
    how = {"scale": data.scale, "sigma": SIGMA, "seed": 0, "device": "cpu"}
    copies = noised_copies(range(models), data.x_train, data.y_train, **how)  # type: ignore[arg-type]
    recipe = resolve(training, model=model, shape=data.shape, num_classes=2, scale=1.0, seed=0, device="cpu")
    images = models * len(data.y_train) * (training.epochs or 0)
    loop = seconds(lambda: plain_loop(copies, data.y_train, model, training))
    family = seconds(lambda: train_family(copies, recipe))
    print(
        f"{name}: {models} networks, {len(data.y_train)} images, {training.epochs} epochs, batch {training.batch_size}"
    )
    print(f"  one after another      {loop:8.2f} s  {images / loop:9.0f} images/s")
    print(
        f"  one family ({recipe.strategy}, {recipe.width:3d})  {family:6.2f} s  {images / family:9.0f} images/s", end=""
    )
    print(f"  ratio {loop / family:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--mnist", help="folder with MNIST (MNIST/raw or mnist.npz)")
    given = parser.parse_args()
    device.prepare()
    options = RabOptions()
    compare("digits", "digits", None, given.models, options.model, options.training)
    if given.mnist:
        training = options.training.model_copy(update={"epochs": 1, "batch_size": 128})
        compare("MNIST", "mnist", given.mnist, 5, "rab_cnn", training)


if __name__ == "__main__":
    main()
