"""How cost grows with partitions, training samples, networks, noises and test points: python benchmarks/growth.py

Three sizes each, doubling; seconds of processor time of one thread, the least of three runs, so that other work on
the machine disturbs little. The exponent b is that of size**b through the first and the last size: 1 is linear.
"""

import math
import time
from collections.abc import Callable, Iterator

import numpy as np

from mithridate import device
from mithridate.certify.aggregation import certify_dpa, certify_finite, vote_counts, votes
from mithridate.certify.collective import certify_collective
from mithridate.certify.runoff import certify_finite_runoff, certify_runoff
from mithridate.data.partition import draw_shifts, partition_indices
from mithridate.models.registry import builder, initialise
from mithridate.options.dpa import ScoringOptions
from mithridate.options.training import TrainingOptions, plain_adam
from mithridate.scoring.scores import Scorer
from mithridate.scoring.smoothing import ESTIMATE, Counter
from mithridate.streams import Stream
from mithridate.training.family import Family, train_family
from mithridate.training.noised import noised_copies
from mithridate.training.recipe import resolve
from mithridate.training.subset import Subset

REPEATS, CLASSES, SHAPE = 3, 10, (1, 8, 8)
Work = Callable[[], object]


def images(n: int, shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 17, (n, *shape), np.uint8), rng.integers(0, CLASSES, n)


def train(n: int, k: int, **options: object) -> Family:
    """A family of k base classifiers of a training set of n images."""
    x, y = images(n)
    mean, std = np.full(1, 0.5), np.full(1, 0.3)
    subsets = [Subset(i, x[rows], y[rows], mean, std) for i, rows in enumerate(partition_indices(x, y, k))]
    given = TrainingOptions(**{"batch_size": 16, **options})
    how = {"model": "small_cnn", "shape": SHAPE, "num_classes": CLASSES, "scale": 1 / 16, "seed": 0, "device": "cpu"}
    return train_family(subsets, resolve(given, **how))


def train_noised(n: int, networks: int) -> None:
    x, y = images(n)
    copies = noised_copies(range(networks), x, y % 2, scale=1 / 16, sigma=0.5, seed=0, device="cpu")
    how = {"model": "rab_mlp", "shape": SHAPE, "num_classes": 2, "scale": 1.0, "seed": 0, "device": "cpu"}
    train_family(copies, resolve(plain_adam(2, batch_size=32), **how))


def score(points: int, members: int) -> Work:
    family, how = train(20 * members, members, steps=1), {"scale": 1 / 16, "model": "small_cnn", "device": "cpu"}
    scorer = Scorer(images(points)[0], num_classes=CLASSES, options=ScoringOptions(), **how)
    centre = np.full((members, 1), 0.5)
    return lambda: scorer.score(family, centre, centre)


def count(points: int, noises: int) -> Work:
    network = initialise(builder("smoothing_digits"), SHAPE, CLASSES, Stream("growth"))
    tensors = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items() if tensor.ndim}
    how = {"num_classes": CLASSES, "scale": 1 / 16, "sigma": 0.25, "seed": 0, "device": "cpu", "chunk": 1000}
    counter = Counter(tensors, SHAPE, model="smoothing_digits", **how)
    return lambda: counter.counts(ESTIMATE, images(points)[0], np.arange(points), noises)


def scores(points: int, classifiers: int, classes: int = CLASSES) -> np.ndarray:
    rng = np.random.default_rng(0)
    array = rng.standard_normal((points, classifiers, classes), np.float32)
    array[np.arange(points), :, rng.integers(0, classes, points)] += 2 * rng.random((points, 1))
    return array


def certify(points: int, k: int, classes: int = CLASSES) -> Work:
    array = scores(points, k, classes)
    return lambda: (certify_dpa(vote_counts(array)), certify_runoff(array))


def certify_spread(points: int, k: int, d: int) -> Work:
    array, shifts = scores(points, k * d), draw_shifts(k, d)
    chosen = votes(array)
    return lambda: (certify_finite(chosen, shifts, CLASSES), certify_finite_runoff(array, shifts))


def together(points: int) -> Work:
    array = votes(scores(points, 50))
    labels = np.array([np.bincount(row).argmax() for row in array])
    return lambda: certify_collective(array, labels, CLASSES, 10)


def cases() -> Iterator[tuple[str, str, list[int], Callable[[int], Work]]]:
    """What is done, what grows, the sizes, and the work of a size."""
    epochs = {"steps": None, "epochs": 4}
    yield "training, fixed epochs", "training samples n", [4000, 8000, 16000], lambda n: lambda: train(n, 20, **epochs)
    yield "training, fixed epochs", "partitions k", [20, 40, 80], lambda k: lambda: train(8000, k, **epochs)
    yield "training, fixed steps", "partitions k", [20, 40, 80], lambda k: lambda: train(8000, k, steps=30)
    yield "RAB's training", "networks N", [50, 100, 200], lambda n: lambda: train_noised(256, n)
    yield "RAB's training", "training samples n", [256, 512, 1024], lambda n: lambda: train_noised(n, 50)
    yield "scoring", "test points", [1000, 2000, 4000], lambda n: score(n, 20)
    yield "scoring", "base classifiers k·d", [20, 40, 80], lambda k: score(1000, k)
    yield "noise counts", "noises N", [10_000, 20_000, 40_000], lambda n: count(4, n)
    yield "noise counts", "test points", [4, 8, 16], lambda n: count(n, 10_000)
    yield "DPA and run-off", "test points", [2500, 5000, 10_000], lambda n: certify(n, 50)
    yield "DPA and run-off", "partitions k", [50, 100, 200], lambda k: certify(2500, k)
    yield "DPA and run-off", "classes C", [10, 20, 40], lambda c: certify(1000, 50, c)
    yield "Finite Aggregation and its run-off", "test points", [250, 500, 1000], lambda n: certify_spread(n, 50, 4)
    yield "Finite Aggregation and its run-off", "subsets a bucket d", [4, 8, 16], lambda d: certify_spread(250, 50, d)
    yield "collective certificate, radius 10", "test points", [100, 200, 400], together


def spent(work: Work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    device.prepare()
    print("work | grows | sizes | seconds | exponent")
    for what, name, sizes, make in cases():
        seconds = []
        for size in sizes:
            work = make(size)
            seconds.append(min(spent(work) for _ in range(REPEATS)))
        exponent = math.log(seconds[-1] / seconds[0]) / math.log(sizes[-1] / sizes[0])
        listed = [", ".join(f"{value:,}" for value in sizes), ", ".join(f"{value:.3g}" for value in seconds)]
        print(f"{what} | {name} | {listed[0]} | {listed[1]} | {exponent:.2f}", flush=True)


if __name__ == "__main__":
    main()
