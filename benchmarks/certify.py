"""DPA and Run-off Election on whole arrays against a loop over test points.

    python benchmarks/certify.py [--points 10000 --classifiers 50 --classes 10]

The loop is written the way the papers' public code certifies: one test point at a time, a loop over classes
for round 2 and over pairs of classes for round 1; the dynamic programme over the two gaps is filled once and
looked up. Scores are synthetic: labels plus noise, uneven difficulty. Both must agree on every prediction and
radius. NumPy uses one thread for all of this. Times are wall-clock seconds: the best of --repeats for the
arrays, one run for the loop.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from mithridate.certify.aggregation import certify_dpa, vote_counts
from mithridate.certify.runoff import certify_runoff

Result = list[np.ndarray]  # DPA's prediction and radius, the Run-off Election's prediction and radius


def synthetic_scores(points: int, classifiers: int, classes: int, seed: int = 0) -> np.ndarray:
    stream = np.random.default_rng(seed)
    scores = stream.standard_normal((points, classifiers, classes), np.float32)
    scores[np.arange(points), :, stream.integers(0, classes, points)] += 3 * stream.random((points, 1))
    return scores


def on_arrays(scores: np.ndarray) -> Result:
    counts = vote_counts(scores)
    return [*certify_dpa(counts), *certify_runoff(scores, counts)]


def point_by_point(scores: np.ndarray) -> Result:
    points, k, classes = scores.shape
    changes = programme(k + 1)
    rows = []
    for i in range(points):
        n = np.bincount(scores[i].argmax(1), minlength=classes)
        order = np.argsort(-n, kind="stable")
        c = int(order[0])
        strongest = max(int(n[j]) + (j < c) for j in range(classes) if j != c)
        rows.append([c, (int(n[c]) - strongest) // 2, *runoff(scores[i], n.tolist(), order[:2].tolist(), changes)])
    return list(np.array(rows).T)


def runoff(scores: np.ndarray, n: list[int], top: list[int], changes: list[list[int]]) -> tuple[int, int]:
    """One test point's scores [k, classes] -> (prediction, radius)."""
    k, classes = scores.shape
    low, high = min(top), max(top)
    c = low if 2 * int((scores[:, low] >= scores[:, high]).sum()) >= k else high
    s = low + high - c
    others = [j for j in range(classes) if j != c]
    gap = {j: max(0, n[c] - n[j] + (j > c)) for j in others}
    first = min((changes[gap[a]][gap[b]] for a in others for b in others if a < b), default=k + 1)
    second = k + 1
    for j in others:
        prefer_c = scores[:, c] >= scores[:, j] if c < j else scores[:, c] > scores[:, j]
        enter = max(0, n[s] - n[j] + (j > s))
        win = max(0, 2 * int(prefer_c.sum()) - k + (j > c))
        second = min(second, max(-(-enter // 2), -(-win // 2)))
    return c, min(first, second) - 1


def programme(largest: int) -> list[list[int]]:
    """Least number of changed votes that closes both gaps, for gaps up to `largest`."""
    table = [[0] * (largest + 1) for _ in range(largest + 1)]
    for a in range(largest + 1):
        for b in range(largest + 1):
            if a or b:
                table[a][b] = 1 + min(table[max(0, a - 2)][max(0, b - 1)], table[max(0, a - 1)][max(0, b - 2)])
    return table


def timed(call: Callable[[], Result], repeats: int) -> tuple[float, Result]:
    """Best wall-clock time in seconds, and the result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return min(times), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"points": 10_000, "classifiers": 50, "classes": 10, "repeats": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{default}")
    options = parser.parse_args()
    scores = synthetic_scores(options.points, options.classifiers, options.classes)
    fast, arrays = timed(lambda: on_arrays(scores), options.repeats)
    slow, loop = timed(lambda: point_by_point(scores), 1)
    agree = all(np.array_equal(a, b) for a, b in zip(arrays, loop, strict=True))
    print(" x ".join(f"{getattr(options, name)} {name}" for name in ("points", "classifiers", "classes")))
    print(f"{'whole arrays':<24}{fast:9.3f} s   best of {options.repeats}")
    print(f"{'loop over test points':<24}{slow:9.3f} s   all test points, once")
    print(f"{'ratio':<24}{slow / fast:9.1f}")
    print(f"{'predictions and radii':<24}{'agree' if agree else 'DIFFER':>9}")
    if not agree:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
