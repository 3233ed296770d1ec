"""STRIP, batched, against loops over the inputs as one writes them.

    python benchmarks/strip.py [--models deepid small_cnn --inputs 200 --overlays 100 --repeats 3 --batch 100]

Untrained networks on 28 x 28 (what they cost does not depend on their weights), saturating overlays, entropy; the same
overlays for all. "One overlay at a time": each superimposed image passes through the network by itself. "One input at a
time": as in the public code of Gao et al. (2019), the overlays are laid over an input one after another in NumPy, pass
through the network together, and NumPy takes the entropy. Both with PyTorch's own settings: on its default number of
threads, one per core, and on one. Ours as the workflow uses the machine: one process of one thread per core, each with
its share of the inputs, started before the clock; and a single such process.

Times are the best of --repeats, by the clock and by the processor (of all processes or threads together): where other
work shares the machine, the latter says more, except of several threads, which wait for each other. The first kind of
loop is timed on a twentieth of the inputs. Each row is compared with ours on as many cores.
"""

import argparse
import time
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from torch import nn

from mithridate import device
from mithridate.models.registry import builder
from mithridate.options.badnet import StripOptions
from mithridate.repair.strip import Strip

SHAPE, CLASSES, CLEAN = (1, 28, 28), 10, 500
PATIENCE = 3600  # seconds after which processes no longer wait for each other
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


def fastest(work: Callable[[], object], repeats: int, count: int) -> Times:
    """Seconds per 1,000 of `count` inputs."""
    clock = processor = float("inf")
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        work()
        clock = min(clock, time.perf_counter() - start[0])
        processor = min(processor, time.process_time() - start[1])
    return 1000 * clock / count, 1000 * processor / count


def ours(
    network: nn.Module, images: np.ndarray, clean: np.ndarray, options: StripOptions, processes: int, repeats: int
) -> tuple[Times, np.ndarray]:
    """Seconds per 1,000 inputs that pass through processes side by side, and the entropies."""
    context = get_context("spawn")
    gate, answers = context.Barrier(processes + 1, timeout=PATIENCE), context.Queue()
    parts = np.array_split(images, processes)
    shares = [(number, network, part, clean, options, repeats, gate, answers) for number, part in enumerate(parts)]
    started = [context.Process(target=_share, args=share, daemon=True) for share in shares]
    for process in started:
        process.start()
    clock = float("inf")
    for _ in range(repeats):
        gate.wait()
        start = time.perf_counter()
        gate.wait()
        clock = min(clock, time.perf_counter() - start)
    found = dict(answers.get() for _ in started)
    for process in started:
        process.join()
    processor = min(map(sum, zip(*(spent for spent, _ in found.values()), strict=True)))
    times = 1000 * clock / len(images), 1000 * processor / len(images)
    return times, np.concatenate([found[number][1] for number in range(processes)])


def _share(
    number: int,
    network: nn.Module,
    images: np.ndarray,
    clean: np.ndarray,
    options: StripOptions,
    repeats: int,
    gate: Any,
    answers: Any,
) -> None:
    device.prepare()
    strip, spent, values = Strip(network, clean, options=options, seed=0), [], np.zeros(0)
    strip.values(images[:2])
    for _ in range(repeats):
        gate.wait()
        start = time.process_time()
        values = strip.values(images)
        spent.append(time.process_time() - start)
        gate.wait()
    answers.put((number, (spent, values)))


def compare(model: str, given: argparse.Namespace) -> None:
    rng, cores = np.random.default_rng(0), torch.get_num_threads()
    images, clean = (rng.random((n, *SHAPE), np.float32) for n in (given.inputs, CLEAN))
    network = builder(model)(*SHAPE, CLASSES).eval()
    options = StripOptions(overlays=given.overlays, batch_size=given.batch)
    laid = [clean[chosen] for chosen in Strip(network, clean, options=options, seed=0).chosen(images)]
    expected, few = one_input_at_a_time(network, images, laid), max(1, given.inputs // 20)
    times: dict[str, tuple[int, Times]] = {}
    best: dict[int, Times] = {}
    for threads in sorted({cores, 1}, reverse=True):
        torch.set_num_threads(threads)
        how = f"{threads} thread{'s' if threads > 1 else ''}"
        own = fastest(lambda: one_overlay_at_a_time(network, images[:few], laid[:few]), given.repeats, few)
        times[f"one overlay at a time, {how}"] = threads, own
        own = fastest(lambda: one_input_at_a_time(network, images, laid), given.repeats, given.inputs)
        times[f"one input at a time, {how}"] = threads, own
        best[threads], found = ours(network, images, clean, options, threads, given.repeats)
        times[f"ours, {threads} process{'es' if threads > 1 else ''} of 1 thread"] = threads, best[threads]
        assert np.abs(found - expected).max() < 1e-5
    torch.set_num_threads(cores)
    print(f"{model} on 28x28, {given.inputs} inputs, {given.overlays} overlays; largest difference of an", end="")
    print(f" entropy {np.abs(found - expected).max():.1e} bits")
    print(f"{'':34s}  s per 1,000 inputs  time / ours  CPU s per 1,000  CPU time / ours")
    for what, (threads, (clock, processor)) in times.items():
        print(f"{what:34s}{clock:20.2f}{clock / best[threads][0]:13.1f}", end="")
        print(f"{processor:17.2f}{processor / best[threads][1]:17.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["deepid", "small_cnn"])
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--overlays", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, help="images per batch of ours (default: the workflow's own)")
    given = parser.parse_args()
    for model in given.models:
        compare(model, given)


if __name__ == "__main__":
    main()
