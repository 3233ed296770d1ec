"""Noise counts of randomized smoothing against the published loop, and what stopping early saves.

    python benchmarks/smoothing.py [--draws 10000 --points 200 --sigma 0.5 --repeats 9]

First table: samples per second of one network, on one test image. The published loop is SAMPLEUNDERNOISE as in the
public code of Cohen et al. (2019): batches of 1000 copies of the image, randn_like times sigma, argmax, and counting in
a Python loop; on all threads and on one. Ours runs on one thread, as every job of the workflow does. The lines between
add to the loop what makes the difference, one thing after another. Networks are untrained (what they cost does not
depend on their weights), and times are the best of --repeats, taken in turn, by the clock and by the processor: where
other work shares the machine, the latter says more, except of several threads, which wait for each other.

Second table: a small_cnn trained on digits with noise; the same test images certified with a fixed number of noises
and by stopping early at each radius, alpha = 0.001 for both. One fixed run serves all radii, a sequential one its own.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from math import ceil

import numpy as np
import torch
from torch import nn

from mithridate import device
from mithridate.data.sources import load_source
from mithridate.models.registry import builder
from mithridate.noise import gaussian
from mithridate.options.data import DataOptions
from mithridate.options.smoothing import CertifyOptions
from mithridate.scoring.smoothing import ESTIMATE, Counter, certify
from mithridate.training.stack import keep_channels_last

NETWORKS = {
    "rab_cnn on 28x28": ("rab_cnn", (1, 28, 28)),
    "small_cnn on 28x28": ("small_cnn", (1, 28, 28)),
    "smoothing_mnist on 28x28": ("smoothing_mnist", (1, 28, 28)),
    "small_cnn on 8x8": ("small_cnn", (1, 8, 8)),
    "smoothing_digits on 8x8": ("smoothing_digits", (1, 8, 8)),
}
CLASSES, PUBLISHED_BATCH, ALPHA = 10, 1000, 0.001
Times = dict[str, tuple[float, float]]
RADII = [0, 0.1, 0.25, 0.5, 0.75, 1.0]


@torch.no_grad()
def published_loop(network: nn.Module, x: torch.Tensor, num: int, batch_size: int, sigma: float) -> np.ndarray:
    """Cohen et al.'s SAMPLEUNDERNOISE, on a CPU."""
    counts = np.zeros(CLASSES, int)
    for _ in range(ceil(num / batch_size)):
        this_batch_size = min(batch_size, num)
        num -= this_batch_size
        batch = x.repeat((this_batch_size, 1, 1, 1))
        noise = torch.randn_like(batch) * sigma
        for prediction in network(batch + noise).argmax(1).numpy():
            counts[prediction] += 1
    return counts


def fastest(works: dict[str, Callable[[], object]], repeats: int) -> Times:
    """Best seconds of each by the clock and by the processor, in turn, so that all meet the same neighbours."""
    times = {name: (float("inf"), float("inf")) for name in works}
    for repeat in range(repeats + 1):  # the first round only warms up
        for name, work in works.items():
            clock, processor = time.perf_counter(), time.process_time()
            work()
            spent = time.perf_counter() - clock, time.process_time() - processor
            if repeat:
                times[name] = (min(times[name][0], spent[0]), min(times[name][1], spent[1]))
    return times


def networks() -> dict[str, nn.Module]:
    return {name: builder(model)(*shape, CLASSES).eval() for name, (model, shape) in NETWORKS.items()}


def tensors(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in network.state_dict().items() if tensor.ndim}


def on_threads(threads: int, work: Callable[[], object]) -> None:
    torch.set_num_threads(threads)
    work()


def unprepared(nets: dict[str, nn.Module], draws: int, sigma: float, repeats: int) -> dict[str, Times]:
    """Before `device.prepare`, which a process cannot take back."""
    threads, result = torch.get_num_threads(), {}
    for name, net in nets.items():
        loop = partial(published_loop, net, torch.rand(NETWORKS[name][1]), draws, PUBLISHED_BATCH, sigma)
        works: dict[str, Callable[[], object]] = {
            f"published loop, {threads} threads": partial(on_threads, threads, loop),
            "published loop, 1 thread": partial(on_threads, 1, loop),
        }
        result[name] = fastest(works, repeats)
    return result


def prepared(nets: dict[str, nn.Module], draws: int, sigma: float, repeats: int) -> dict[str, Times]:
    result = {}
    for name, net in nets.items():
        model, shape = NETWORKS[name]
        image = np.random.default_rng(0).random((1, *shape), np.float32)
        counter = new_counter(net, model, shape, 1.0, sigma)
        last = keep_channels_last(builder(model)(*shape, CLASSES).eval())
        x, drawn = torch.from_numpy(image[0]), (counter.chunk, *shape)
        works: dict[str, Callable[[], object]] = {
            "  + freed memory is kept": partial(published_loop, net, x, draws, PUBLISHED_BATCH, sigma),
            f"  + batches of {counter.batch_size}": partial(published_loop, net, x, draws, counter.batch_size, sigma),
            "  + channels last": partial(published_loop, last, x, draws, counter.batch_size, sigma),
            "ours, 1 thread": partial(counter.counts, ESTIMATE, image, [0], draws),
            "  of which noise": partial(draw, drawn, draws // counter.chunk),
        }
        result[name] = fastest(works, repeats)
    return result


def draw(shape: tuple[int, ...], chunks: int) -> None:
    for chunk in range(chunks):
        gaussian(shape, "benchmark", chunk)


def new_counter(net: nn.Module, model: str, shape: tuple[int, int, int], scale: float, sigma: float) -> Counter:
    how = {"model": model, "num_classes": CLASSES, "scale": scale, "sigma": sigma, "seed": 0, "device": "cpu"}
    return Counter(tensors(net), shape, chunk=CertifyOptions().chunk, **how)  # type: ignore[arg-type]


def train(x: torch.Tensor, y: torch.Tensor, sigma: float, epochs: int = 60) -> nn.Module:
    """Gaussian augmentation (Cohen et al.), Adam."""
    torch.manual_seed(0)
    channels, height, width = x.shape[1:]
    net = builder("small_cnn")(channels, height, width, CLASSES)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(100):
            optimiser.zero_grad()
            noised = x[rows] + sigma * torch.randn(x[rows].shape)
            nn.functional.cross_entropy(net(noised), y[rows]).backward()
            optimiser.step()
    return net.eval()


def stopping(draws: int, points: int, sigma: float) -> None:
    data = load_source("digits", DataOptions())
    net = train(torch.from_numpy(data.x_train) * data.scale, torch.from_numpy(data.y_train), sigma)
    images, labels = np.asarray(data.x_test[:points]), data.y_test[:points]
    counter = new_counter(net, "small_cnn", data.shape, data.scale, sigma)
    indices = np.arange(len(labels))
    options = CertifyOptions(n=draws, alpha=ALPHA)
    start = time.perf_counter()
    fixed = certify(counter, images, labels, indices, options)
    spent = time.perf_counter() - start
    print(f"\nsmall_cnn on digits, sigma {sigma}, {len(labels)} test images, N0 = {options.n0}, alpha = {ALPHA}")
    print(f"fixed N = {draws}: {options.n0 + draws} noises an image, {spent:.1f} s for all radii together")
    print("radius  certified accuracy   decided     noises an image    saved    seconds")
    print("        fixed   sequential   otherwise   mean    median     noises   all images")
    for radius in RADII:
        early = options.model_copy(update={"sequential": True, "stop_radius": radius})
        start = time.perf_counter()
        rows = certify(counter, images, labels, indices, early)
        seconds = time.perf_counter() - start
        said = [table["correct"] & (table["radius"] >= radius) for table in (fixed, rows)]
        used = rows["n"] + options.n0
        print(
            f"{radius:6.2f}  {said[0].mean():.3f}   {said[1].mean():.3f}        {(said[0] != said[1]).sum():5d}"
            f"      {used.mean():7.0f}   {used.median():6.0f}    {(options.n0 + draws) / used.mean():6.1f}x"
            f"   {seconds:6.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--sigma", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    nets, speed_draws = networks(), 3 * PUBLISHED_BATCH
    before = unprepared(nets, speed_draws, given.sigma, given.repeats)
    device.prepare()
    after = prepared(nets, speed_draws, given.sigma, given.repeats)
    for name in NETWORKS:
        times = before[name] | after[name]
        ours = times["ours, 1 thread"]
        print(f"{name:30s} samples/s  time / ours   samples/CPU s  CPU time / ours")
        for what, (clock, processor) in times.items():
            print(
                f"  {what:28s} {speed_draws / clock:9.0f}    {clock / ours[0]:9.2f}"
                f"   {speed_draws / processor:13.0f}  {processor / ours[1]:15.2f}"
            )
    stopping(given.draws, given.points, given.sigma)


if __name__ == "__main__":
    main()
