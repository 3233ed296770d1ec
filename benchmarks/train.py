"""Images per second of the family trainer against the straightforward way, side by side in one run.

    python benchmarks/train.py                    digits, small CNN, 50 members
    python benchmarks/train.py --cifar10 DIR      also NIN on CIFAR-10 (DIR/cifar10.npz), one epoch of two members
    python benchmarks/train.py --art              also IBM ART's DeepPartitionEnsemble
    python benchmarks/train.py --strategies       the measurement behind the trainer's defaults

Straightforward: one model after another, a DataLoader with one worker, torchvision transforms, fp32, NCHW, PyTorch's
default number of threads. Ours: the same members, subsets, batches and epochs, one process of one thread per core.
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from mithridate import device
from mithridate.data.partition import partition_indices
from mithridate.models.registry import builder
from mithridate.options.training import AugmentationOptions, TrainingOptions
from mithridate.torchvision_shim import import_torchvision
from mithridate.training.family import Subset, train_family
from mithridate.training.recipe import resolve

CORES = len(os.sched_getaffinity(0))


def subsets_of(images: np.ndarray, labels: np.ndarray, k: int, scale: float, members: int) -> list[Subset]:
    """The first members' subsets, with their own normalisation."""
    result = []
    for number, rows in enumerate(partition_indices(images, labels, k)[:members]):
        x = images[rows] * scale
        result.append(Subset(number, images[rows], labels[rows], x.mean((0, 2, 3)), x.std((0, 2, 3), ddof=1)))
    return result


def straightforward(
    subsets: list[Subset], model: str, scale: float, classes: int, options: TrainingOptions, workers: int = 1
) -> float:
    """Seconds to train the members as a research script does."""
    import_torchvision()
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import v2

    class Images(Dataset):
        def __init__(self, subset: Subset) -> None:
            a = options.augmentation
            steps: list[object] = [v2.ToImage()]
            if a.rotation or a.scaling:
                steps.append(v2.RandomAffine(a.rotation, scale=(1 - a.scaling, 1 + a.scaling)))
            if a.crop_padding:
                steps.append(v2.RandomCrop(subset.images.shape[2:], padding=a.crop_padding))
            if a.flip:
                steps.append(v2.RandomHorizontalFlip())
            scaled = v2.ToDtype(torch.float32), v2.Normalize(subset.mean / scale, subset.std / scale)
            self.transform, self.subset = v2.Compose([*steps, *scaled]), subset

        def __len__(self) -> int:
            return len(self.subset.labels)

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            return self.transform(torch.from_numpy(self.subset.images[i])), int(self.subset.labels[i])

    start = time.perf_counter()
    for subset in subsets:
        net = builder(model)(*subset.images.shape[1:], classes)
        optimiser = torch.optim.SGD(
            net.parameters(),
            options.learning_rate,
            options.momentum,
            nesterov=True,
            weight_decay=options.weight_decay,
        )
        criterion = torch.nn.CrossEntropyLoss(label_smoothing=options.label_smoothing)
        loader = DataLoader(Images(subset), options.batch_size, shuffle=True, num_workers=workers)
        for _ in range(options.epochs or 0):
            for x, y in loader:
                optimiser.zero_grad()
                criterion(net(x), y).backward()
                optimiser.step()
    return time.perf_counter() - start


def _train_slice(job: tuple[list[Subset], str, float, int, TrainingOptions]) -> float:
    subsets, model, scale, classes, options = job
    kind = device.kind("auto")
    device.prepare(kind)
    shape = (subsets[0].images.shape[1], subsets[0].images.shape[2], subsets[0].images.shape[3])
    recipe = resolve(options, model=model, shape=shape, num_classes=classes, scale=scale, seed=0, device=kind)
    train_family(
        subsets[:1],
        resolve(
            TrainingOptions(steps=2), model=model, shape=shape, num_classes=classes, scale=scale, seed=0, device=kind
        ),
    )
    start = time.perf_counter()
    train_family(subsets, recipe)
    return time.perf_counter() - start


def ours(
    subsets: list[Subset], model: str, scale: float, classes: int, options: TrainingOptions, jobs: int = CORES
) -> float:
    """Seconds of the slowest of the slices that run side by side (a process's start-up is paid once, and not here)."""
    cut = [subsets[len(subsets) * i // jobs : len(subsets) * (i + 1) // jobs] for i in range(jobs)]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        return max(pool.map(_train_slice, [(part, model, scale, classes, options) for part in cut if part]))


def row(what: str, images: int, seconds: float, reference: float | None = None) -> None:
    ratio = "" if reference is None else f"{reference / seconds:8.1f}x"
    print(f"{what:58s}{images / seconds:12.0f} images/s{seconds:9.2f} s{ratio}", flush=True)


def digits() -> tuple[np.ndarray, np.ndarray]:
    from mithridate.data.digits import digits

    data = digits()
    return data.x_train, data.y_train


def compare_digits(epochs: int) -> None:
    images, labels = digits()
    subsets = subsets_of(images, labels, 50, 1 / 16, 50)
    options = TrainingOptions(epochs=epochs, steps=None, batch_size=32)
    seen = epochs * len(labels)
    print(f"digits 8x8, small CNN, 50 members, {epochs} epochs, {CORES} cores")
    reference = straightforward(subsets, "small_cnn", 1 / 16, 10, options)
    row("  straightforward", seen, reference)
    inline = straightforward(subsets, "small_cnn", 1 / 16, 10, options, workers=0)
    row("  straightforward, loading in the training process", seen, inline, reference)
    row("  family trainer", seen, ours(subsets, "small_cnn", 1 / 16, 10, options), reference)


def compare_cifar10(folder: Path, members: int) -> None:
    with np.load(folder / "cifar10.npz", allow_pickle=False) as file:
        images, labels = file["x_train"].transpose(0, 3, 1, 2), file["y_train"].ravel().astype(np.int64)
    subsets = subsets_of(np.ascontiguousarray(images), labels, 50, 1 / 255, members)
    crop = AugmentationOptions(crop_padding=4, flip=True, rotation=0, scaling=0)
    options = TrainingOptions(
        epochs=1, steps=None, batch_size=128, learning_rate=0.1, weight_decay=5e-4, label_smoothing=0,
        augmentation=crop, precision="bf16",
    )  # fmt: skip
    seen = sum(len(s.labels) for s in subsets)
    print(f"CIFAR-10, NIN, {members} members of k = 50, 1 epoch, {CORES} cores")
    reference = straightforward(subsets, "nin", 1 / 255, 10, options)
    row("  straightforward, fp32 NCHW", seen, reference)
    exact = options.model_copy(update={"precision": "fp32"})
    row("  family trainer, fp32 channels_last", seen, ours(subsets, "nin", 1 / 255, 10, exact), reference)
    row("  family trainer, bf16 channels_last", seen, ours(subsets, "nin", 1 / 255, 10, options), reference)


def compare_art(epochs: int) -> None:
    """ART's DeepPartitionEnsemble.fit on the same subsets, members and epochs (its hash is set to our partition)."""
    from art.estimators.classification import PyTorchClassifier
    from art.estimators.classification.deep_partition_ensemble import DeepPartitionEnsemble

    images, labels = digits()
    subsets = subsets_of(images, labels, 50, 1 / 16, 50)
    net = builder("small_cnn")(1, 8, 8, 10)
    optimiser = torch.optim.SGD(net.parameters(), 0.1, 0.9, nesterov=True)
    classifier = PyTorchClassifier(net, torch.nn.CrossEntropyLoss(), (1, 8, 8), 10, optimiser)
    ensemble = DeepPartitionEnsemble(
        classifier, hash_function=lambda x: round(float(x.sum()) * 16) % 50, ensemble_size=50, channels_first=True
    )
    one_hot = np.eye(10, dtype=np.float32)[labels]
    start = time.perf_counter()
    ensemble.fit(images.astype(np.float32) / 16, one_hot, batch_size=32, nb_epochs=epochs)
    reference = time.perf_counter() - start
    plain = AugmentationOptions(crop_padding=0, rotation=0, scaling=0)
    options = TrainingOptions(epochs=epochs, steps=None, batch_size=32, label_smoothing=0, augmentation=plain)
    seen = epochs * len(labels)
    print(f"digits 8x8, small CNN, 50 members, {epochs} epochs, no augmentation, {CORES} cores")
    row("  ART DeepPartitionEnsemble.fit", seen, reference)
    row("  family trainer", seen, ours(subsets, "small_cnn", 1 / 16, 10, options), reference)


def compare_strategies() -> None:
    """One process, one thread: the loop against tiles of several widths, for images of several sizes."""
    stream = np.random.default_rng(0)
    for model, side in (("small_cnn", 8), ("small_cnn", 16), ("small_cnn", 28), ("mlp", 8), ("mlp", 28)):
        images = stream.integers(0, 256, (50 * 32, 1, side, side), dtype=np.uint8)
        labels = stream.integers(0, 10, len(images))
        subsets = subsets_of(images, labels, 50, 1 / 255, 50)
        options = TrainingOptions(steps=20, batch_size=16, strategy="loop")
        print(f"{model}, {side}x{side}, 50 members, {options.steps} steps of {options.batch_size}")
        seen = 50 * 20 * options.batch_size
        reference = ours(subsets, model, 1 / 255, 10, options, jobs=1)
        row("  loop", seen, reference)
        for width in (5, 10, 25):
            grouped = options.model_copy(update={"strategy": "grouped", "width": width})
            row(
                f"  grouped, tiles of {width}",
                seen,
                ours(subsets, model, 1 / 255, 10, grouped, jobs=1),
                reference,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, metavar="DIR")
    parser.add_argument("--members", type=int, default=2, help="members of the CIFAR-10 comparison")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of the digits comparisons")
    parser.add_argument("--art", action="store_true")
    parser.add_argument("--strategies", action="store_true")
    arguments = parser.parse_args()
    if arguments.strategies:
        compare_strategies()
    else:
        compare_digits(arguments.epochs)
        if arguments.art:
            compare_art(5 * arguments.epochs)
        if arguments.cifar10:
            compare_cifar10(arguments.cifar10, arguments.members)
