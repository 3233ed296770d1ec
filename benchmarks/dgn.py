"""Ten generators side by side against one after another, and what an adversarial image costs by each attack.

    python benchmarks/dgn.py [--models mnist cifar10 --repeats 2 --steps 3 --batch 100 --images 1000]

First table: seconds per step of all ten data generating networks (forward, NCE loss against an untrained target,
backward, Adam), each on a batch of its own class: as one stack of grouped convolutions, and one network after another.
The workflow does the former on a card, the latter on a processor. Second table: adversarial images per second by those
networks, by FGSM, by PGD (20 steps) and by AutoAttack, with the budgets that dgn.evaluation has by default, against the
same target. The training of the networks is not counted. AutoAttack spares what is fooled already, which makes it the
faster the weaker the target is, and an untrained one is weak; what is attacked are the classes that it predicts.

On one thread, as every job of the workflow, and on a card where there is one. Random images; ART is imported before the
clock. Times are the best of --repeats, taken in turn, by the clock and by the processor: where other work shares the
machine, the latter says more.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from mithridate import device
from mithridate.adversarial.generators import Generators, generate, train_generators
from mithridate.adversarial.gradient_attacks import attack, into_ball, method
from mithridate.adversarial.losses import make_loss
from mithridate.adversarial.toolbox import import_art
from mithridate.models.registry import builder
from mithridate.options.dgn import EvaluationOptions, GeneratorOptions
from mithridate.progress import Progress
from mithridate.repair.predict import predictions

CLASSES = 10
MODELS = {"mnist": ("dgn_dense", (1, 28, 28), 0.3), "cifar10": ("dgn_conv", (3, 32, 32), 0.0313)}
STEPS = {"cpu": 3, "cuda": 100}
Times = tuple[float, float]  # seconds by the clock and by the processor


class Steps(Progress):
    """Notes when each step of a stack, or of one network after another, has ended."""

    def __init__(self, kind: str, steps: int) -> None:
        super().__init__("steps", CLASSES * steps)
        self.kind, self.steps = kind, steps
        self.ends: list[Times] = []

    def add(self, count: int) -> None:
        self.ends.append(now(self.kind))

    def per_step(self) -> Times:
        """Seconds per step of all networks. The first step of each, which also warms up, is left out."""
        parts = np.split(np.array(self.ends), len(self.ends) // self.steps)
        clock, processor = sum(np.diff(part, axis=0).mean(0) for part in parts)
        return clock, processor


def now(kind: str) -> Times:
    if kind == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def best(times: list[Times]) -> Times:
    return min(clock for clock, _ in times), min(processor for _, processor in times)


def train(
    target: nn.Module, shape: tuple[int, ...], epsilon: float, kind: str, given: argparse.Namespace
) -> tuple[dict[str, Times], Generators]:
    """Seconds per step of all networks, either way, and the networks."""
    steps = 1 + (given.steps or STEPS[kind])
    images = np.random.default_rng(0).random((CLASSES * given.batch, *shape), np.float32)
    labels = np.arange(len(images)) % CLASSES
    options = GeneratorOptions(custom_loss="nce", num_epochs=steps, batch_size=given.batch)
    loss_of = partial(make_loss, options, target, epsilon=epsilon)
    ways: dict[str, list[Times]] = {"one stack of ten": [], "one after another": []}
    for _ in range(given.repeats):
        for way, times in ways.items():
            clock = Steps(kind, steps)
            made = train_generators(
                images, labels, loss_of, options, name="nce", seed=0, num_classes=CLASSES,
                together=way == "one stack of ten", device=kind, progress=clock,
            )  # fmt: skip
            times.append(clock.per_step())
    return {way: best(times) for way, times in ways.items()}, made


def make(
    target: nn.Module,
    shape: tuple[int, ...],
    epsilon: float,
    generators: Generators,
    kind: str,
    given: argparse.Namespace,
) -> dict[str, Times]:
    """Seconds for all images by each attack."""
    images = np.random.default_rng(1).random((given.images, *shape), np.float32)
    labels = predictions(target.to(kind).eval(), images, scale=1.0, device=kind)
    classes, options = np.arange(given.images) % CLASSES, EvaluationOptions()  # of generators, so that batches are full

    def generated(images: np.ndarray, labels: np.ndarray) -> object:
        return into_ball(images, generate(generators, images, classes[: len(images)], device=kind), epsilon)

    ways: dict[str, Callable[[np.ndarray, np.ndarray], object]] = {"generators": generated}
    for name, what in {"fgsm": "FGSM", "pgd": f"PGD-{options.max_iterations_pgd}", "autoattack": "AutoAttack"}.items():
        ways[what] = partial(attack, target, how=method(name, options), epsilon=epsilon, seed=0, device=kind)
    times: dict[str, list[Times]] = {way: [] for way in ways}
    for repeat in range(given.repeats + 1):
        for way, work in ways.items():
            rows = slice(None if repeat else CLASSES)  # the first round only warms up
            start = now(kind)
            work(images[rows], labels[rows])
            end = now(kind)
            if repeat:
                times[way].append((end[0] - start[0], end[1] - start[1]))
    return {way: best(own) for way, own in times.items()}


def compare(name: str, kind: str, given: argparse.Namespace) -> None:
    model, shape, epsilon = MODELS[name]
    torch.manual_seed(0)
    target = builder(model)(*shape, CLASSES)
    times, generators = train(target, shape, epsilon, kind, given)
    where = torch.cuda.get_device_name() if kind == "cuda" else "one thread"
    print(
        f"\n{name} ({model}, {' x '.join(map(str, shape))}), {kind} ({where}); ten generators, batches of {given.batch}"
    )
    print(f"{'':20s}  s per step  time / stack  CPU s per step  CPU time / stack")
    stack = times["one stack of ten"]
    for way, (clock, processor) in times.items():
        print(f"{way:20s}{clock:12.4f}{clock / stack[0]:14.2f}{processor:16.4f}{processor / stack[1]:18.2f}")
    times = make(target, shape, epsilon, generators, kind, given)
    print(f"{'':20s}    images/s  time / generators  images/CPU s  CPU time / generators   ({given.images} images)")
    ours, count = times["generators"], given.images
    for way, (clock, processor) in times.items():
        print(f"{way:20s}{count / clock:12.0f}{clock / ours[0]:19.2f}", end="")
        print(f"{count / processor:14.0f}{processor / ours[1]:23.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--steps", type=int, help="steps that are timed (default: 3, on a card 100)")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--images", type=int, default=1000)
    given = parser.parse_args()
    kinds = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    device.prepare(kinds[-1])
    import_art()
    for name in given.models:
        for kind in kinds:
            compare(name, kind, given)


if __name__ == "__main__":
    main()
