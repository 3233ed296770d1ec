"""Training and scoring on one GPU, beside the straightforward way: python benchmarks/gpu.py [--steps 60]

Images are random: speed does not depend on what they show. Peak is a large bf16 product measured in the same run.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mithridate import device
from mithridate.models.registry import builder, initialise
from mithridate.options.dpa import ScoringOptions
from mithridate.options.training import AugmentationOptions, TrainingOptions
from mithridate.scoring.scores import Scorer
from mithridate.scoring.smoothing import ESTIMATE, Counter
from mithridate.streams import Stream
from mithridate.training import family
from mithridate.training.family import train_family
from mithridate.training.recipe import resolve
from mithridate.training.subset import Subset
from mithridate.training.tile import TileTrainer

MEMBERS = 8
PAPER = {"epochs": 1, "steps": None, "learning_rate": 0.1, "weight_decay": 5e-4, "label_smoothing": 0.0}
CROP = AugmentationOptions(crop_padding=4, flip=True, rotation=0, scaling=0)
WAYS = {
    "fp32, eager": {"precision": "fp32", "channels_last": False, "cuda_graphs": False},
    "fp32, graphs": {"precision": "fp32", "channels_last": True, "cuda_graphs": True},
    "bf16, eager": {"precision": "bf16", "channels_last": True, "cuda_graphs": False},
    "bf16, graphs, NCHW": {"precision": "bf16", "channels_last": False, "cuda_graphs": True},
    "bf16, graphs": {"precision": "bf16", "channels_last": True, "cuda_graphs": True},
}


def seconds(work: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def ceilings() -> tuple[float, float]:
    """TFLOP/s of a bf16 matrix product, TB/s of a copy (read and write)."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    big = torch.randn(1 << 29, device="cuda")
    other = torch.empty_like(big)
    for work in (lambda: a @ a, lambda: other.copy_(big)):
        seconds(work)
    product = min(seconds(lambda: a @ a) for _ in range(8))
    copy = min(seconds(lambda: other.copy_(big)) for _ in range(8))
    return 2 * 8192**3 / product / 1e12, 2 * big.nbytes / copy / 1e12


def flops(model: str, shape: tuple[int, int, int], train: bool = True) -> int:
    """Floating-point operations of one image: forward, or forward and backward."""
    network = initialise(builder(model), shape, 10, Stream("flops"))
    with FlopCounterMode(display=False) as counter:
        loss = network(torch.zeros(2, *shape)).sum()
        if train:
            loss.backward()
    return counter.get_total_flops() // 2


def straightforward(model: str, shape: tuple[int, int, int], batch: int, steps: int) -> float:
    """Seconds a step of a plain PyTorch loop over images on the card: fp32, eager, no augmentation."""
    network = initialise(builder(model), shape, 10, Stream("plain")).cuda().train()
    optimiser = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    images, labels = torch.rand(batch, *shape, device="cuda"), torch.zeros(batch, dtype=torch.long, device="cuda")

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimiser.step()

    for _ in range(5):
        step()
    return seconds(lambda: [step() for _ in range(steps)]) / steps


def ours(model: str, shape: tuple[int, int, int], batch: int, steps: int, **how: object) -> float:
    """Seconds a step of the family trainer."""
    options = TrainingOptions(**{**PAPER, "batch_size": batch, "augmentation": CROP, **how})
    recipe = resolve(options, model=model, shape=shape, num_classes=10, scale=1 / 255, seed=0, device="cuda")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch * steps, *shape), np.uint8)
    mean = np.full(shape[0], 0.5)
    subset = Subset(0, images, rng.integers(0, 10, len(images)), mean, mean)
    trainer = TileTrainer(recipe, builder(model), len(images))
    trainer.train([subset], lambda share: None)
    return seconds(lambda: trainer.train([subset], lambda share: None)) / steps


def training(peak: float, steps: int) -> Iterator[str]:
    cases = [("nin", (3, 32, 32), 128), ("nin", (1, 28, 28), 50), ("small_cnn", (1, 28, 28), 128)]
    for model, shape, batch in cases:
        work = flops(model, shape) * batch
        plain = straightforward(model, shape, batch, steps)
        rows = {"plain loop, fp32": plain} | {
            name: ours(model, shape, batch, steps, **how) for name, how in WAYS.items()
        }
        for name, spent in rows.items():
            rate = work / spent / 1e12
            yield (
                f"{model} {shape[1]}×{shape[2]}, batch {batch} | {name} | {spent * 1e3:.2f} | {batch / spent:,.0f}"
                f" | {rate:.1f} | {rate / peak:.1%} | {plain / spent:.1f}"
            )


def together(model: str, shape: tuple[int, int, int], batch: int, steps: int, lanes: int) -> float:
    """Seconds a step of one member where so many are in work at once."""
    options = TrainingOptions(**{**PAPER, "batch_size": batch, "augmentation": CROP, **WAYS["bf16, graphs"]})
    recipe = resolve(options, model=model, shape=shape, num_classes=10, scale=1 / 255, seed=0, device="cuda")
    rng, mean = np.random.default_rng(0), np.full(shape[0], 0.5)
    images, labels = rng.integers(0, 256, (batch * steps, *shape), np.uint8), rng.integers(0, 10, batch * steps)
    subsets = [Subset(number, images, labels, mean, mean) for number in range(MEMBERS)]
    usual, family.LANES["cuda"] = family.LANES["cuda"], lanes
    try:
        train_family(subsets[:lanes], recipe)
        return seconds(lambda: train_family(subsets, recipe)) / steps / MEMBERS
    finally:
        family.LANES["cuda"] = usual


def scored(model: str, shape: tuple[int, int, int], precision: str) -> float:
    """Seconds to score 10,000 test images with one member."""
    rng = np.random.default_rng(0)
    mean = np.full((1, shape[0]), 0.5)
    subset = Subset(0, rng.integers(0, 256, (64, *shape), np.uint8), np.arange(64) % 10, mean[0], mean[0])
    how = {"model": model, "num_classes": 10, "scale": 1 / 255, "device": "cuda"}
    trained = train_family([subset], resolve(TrainingOptions(steps=2), shape=shape, seed=0, **how))
    images = rng.integers(0, 256, (10_000, *shape), np.uint8)
    scorer = Scorer(images, options=ScoringOptions(precision=precision), **how)
    scorer.score(trained, mean, mean)
    return seconds(lambda: scorer.score(trained, mean, mean))


def counted(model: str, shape: tuple[int, int, int]) -> float:
    """Seconds to count 100,000 noised copies of one image."""
    network: nn.Module = initialise(builder(model), shape, 10, Stream("counted"))
    tensors = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items() if tensor.ndim}
    how = {"model": model, "num_classes": 10, "scale": 1 / 255, "sigma": 0.25, "seed": 0, "device": "cuda"}
    counter, image = Counter(tensors, shape, chunk=1000, **how), np.zeros((1, *shape), np.uint8)
    counter.counts(ESTIMATE, image, [0], 10_000)
    return seconds(lambda: counter.counts(ESTIMATE, image, [0], 100_000))


def scoring(peak: float) -> Iterator[str]:
    for model, shape in [("nin", (3, 32, 32)), ("small_cnn", (1, 28, 28))]:
        for precision in ("fp32", "bf16"):
            rate = 10_000 / scored(model, shape, precision)
            share = flops(model, shape, train=False) * rate / 1e12 / peak
            yield f"{model} | scores, {precision} | {rate:,.0f} | {share:.1%}"
    for model, shape in [("smoothing_mnist", (1, 28, 28)), ("resnet20", (3, 32, 32))]:
        rate = 100_000 / counted(model, shape)
        share = flops(model, shape, train=False) * rate / 1e12 / peak
        yield f"{model} | noise counts, fp32 | {rate:,.0f} | {share:.1%}"


def lanes(peak: float, steps: int) -> Iterator[str]:
    for model, shape, batch in [("nin", (3, 32, 32), 128), ("nin", (1, 28, 28), 50)]:
        for count in (1, 2, 4, 8):
            spent = together(model, shape, batch, steps, count)
            share = flops(model, shape) * batch / spent / 1e12 / peak
            name = f"{model} {shape[1]}×{shape[2]}, batch {batch}"
            yield f"{name} | {count} | {spent * 1e3:.2f} | {batch / spent:,.0f} | {share:.1%}"


def kernels(steps: int) -> str:
    """Where the card's time goes in bf16 training of the paper's network."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        ours("nin", (3, 32, 32), 128, steps, **WAYS["bf16, graphs"])
    return profile.key_averages().table(sort_by="self_cuda_time_total", row_limit=18, max_name_column_width=70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="training steps measured of each way")
    parser.add_argument("--kernels", action="store_true", help="show where the card's time goes")
    arguments = parser.parse_args()
    device.prepare("cuda")
    peak, bandwidth = ceilings()
    print(f"{torch.cuda.get_device_name()}: bf16 product {peak:.0f} TFLOP/s, copy {bandwidth:.2f} TB/s")
    print("\nnetwork | way | ms a step | images/s | TFLOP/s | of peak | ratio")
    for row in training(peak, arguments.steps):
        print(row, flush=True)
    print("\nnetwork | members in work at once | ms a member's step | images/s | of peak")
    for row in lanes(peak, 4 * arguments.steps):
        print(row, flush=True)
    print("\nnetwork | what | images/s | of peak")
    for row in scoring(peak):
        print(row, flush=True)
    if arguments.kernels:
        print(kernels(arguments.steps))


if __name__ == "__main__":
    main()
