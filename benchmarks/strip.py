"""STRIP, batched, against loops over the inputs as one writes them.

    python benchmarks/strip.py [--inputs 200 --overlays 100 --repeats 3 --model small_cnn --batch 100]

One untrained network on 28 x 28 (what it costs does not depend on its weights), saturating overlays, entropy; the same
overlays for all. "One overlay at a time": each superimposed image passes through the network by itself. "One input at a
time": as in the public code of Gao et al. (2019), the overlays are laid over an input one after another in NumPy, pass
through the network together, and NumPy takes the entropy. Both with PyTorch's own settings, on all threads and on one.
Ours runs on one thread, as every job of the workflow does. Times are the best of --repeats, by the clock and by the
processor: where other work shares the machine, the latter says more, except of several threads, which wait for each
other. The first kind of loop is timed on a twentieth of the inputs.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from mithridate import device
from mithridate.models.registry import builder
from mithridate.options.badnet import StripOptions
from mithridate.repair.strip import Strip

SHAPE, CLASSES, CLEAN = (1, 28, 28), 10, 500
Times = tuple[float, float]


def superimpose(image: np.ndarray, overlay: np.ndarray) -> np.ndarray:
    return np.clip(image + overlay, 0, 1)


def probabilities(network: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(images)).softmax(1).numpy()


def bits(p: np.ndarray) -> float:
    return float(-np.nansum(p * np.log2(p)))


def one_overlay_at_a_time(network: nn.Module, images: np.ndarray, laid: list[np.ndarray]) -> np.ndarray:
    found = []
    for image, overlays in zip(images, laid, strict=True):
        total = 0.0
        for overlay in overlays:
            total += bits(probabilities(network, superimpose(image, overlay)[None]))
        found.append(total / len(overlays))
    return np.array(found)


def one_input_at_a_time(network: nn.Module, images: np.ndarray, laid: list[np.ndarray]) -> np.ndarray:
    found = []
    for image, overlays in zip(images, laid, strict=True):
        blended = np.array([superimpose(image, overlay) for overlay in overlays])
        found.append(bits(probabilities(network, blended)) / len(overlays))
    return np.array(found)


def fastest(work: Callable[[], object], repeats: int) -> Times:
    clock = processor = float("inf")
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        work()
        clock = min(clock, time.perf_counter() - start[0])
        processor = min(processor, time.process_time() - start[1])
    return clock, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--overlays", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="small_cnn")
    parser.add_argument("--batch", type=int, help="images per batch of ours (default: the workflow's own)")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    images, clean = (rng.random((n, *SHAPE), np.float32) for n in (given.inputs, CLEAN))
    network = builder(given.model)(*SHAPE, CLASSES).eval()
    options = StripOptions(overlays=given.overlays, batch_size=given.batch)
    strip = Strip(network, clean, options=options, seed=0)
    laid = [clean[chosen] for chosen in strip.chosen(images)]
    few = max(1, given.inputs // 20)
    times: dict[str, Times] = {}
    for threads in sorted({torch.get_num_threads(), 1}, reverse=True):
        torch.set_num_threads(threads)
        own = fastest(lambda: one_overlay_at_a_time(network, images[:few], laid[:few]), given.repeats)
        times[f"one overlay at a time, threads: {threads}"] = (own[0] / few, own[1] / few)
        own = fastest(lambda: one_input_at_a_time(network, images, laid), given.repeats)
        times[f"one input at a time, threads: {threads}"] = (own[0] / given.inputs, own[1] / given.inputs)
    expected = one_input_at_a_time(network, images, laid)
    device.prepare()
    found = strip.values(images)
    own = fastest(lambda: strip.values(images), given.repeats)
    times["ours, threads: 1"] = ours = (own[0] / given.inputs, own[1] / given.inputs)
    print(f"{given.model} on 28x28, {given.inputs} inputs, {given.overlays} overlays; largest difference of an", end="")
    print(f" entropy {np.abs(found - expected).max():.1e} bits")
    print(f"{'':34s} s per 1,000 inputs  time / ours  CPU s per 1,000  CPU time / ours")
    for what, (clock, processor) in times.items():
        print(
            f"{what:34s} {1000 * clock:18.2f}  {clock / ours[0]:11.1f}  {1000 * processor:15.2f}"
            f"  {processor / ours[1]:15.1f}"
        )


if __name__ == "__main__":
    main()
