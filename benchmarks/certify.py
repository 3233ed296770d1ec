"""DPA, Finite Aggregation and their Run-off Elections on whole arrays against a loop over test points.

    python benchmarks/certify.py [--points 10000 --classifiers 50 --classes 10 --spread 16]

The loop is written the way the papers' public code certifies: one test point at a time, a loop over classes
for round 2 and over pairs of classes for round 1; the dynamic programme over the two gaps is filled once and
looked up. Finite Aggregation has --classifiers × --spread classifiers; its loop adds up the shifts and sorts
the buckets for every class, and for every pair of classes in the run-off. It is run on --loop-points test
points, and its time is scaled to all of them; predictions and radii are compared on these. Scores are
synthetic: labels plus noise, uneven difficulty. Both must agree on every prediction and radius. NumPy uses
one thread for all of this. Times are wall-clock seconds: the best of --repeats for the arrays (one run
for the finite run-off), one run for the loop.
"""

import argparse
import resource
import time
from collections.abc import Callable
from itertools import combinations

import numpy as np

from mithridate.certify.aggregation import certify_dpa, certify_finite, vote_counts, votes
from mithridate.certify.runoff import certify_finite_runoff, certify_runoff, hold_election

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


def finite_point(scores: np.ndarray, shifts: list[int], with_runoff: bool) -> tuple[int, int]:
    """One test point's scores [m, classes] -> (prediction, radius) of Finite Aggregation or of its run-off."""
    m, classes = scores.shape
    f = scores.argmax(1)
    n = np.bincount(f, minlength=classes).tolist()

    def buckets(weight: np.ndarray, target: int) -> int:
        """Least number of buckets whose classifiers' weights add up to the target."""
        heaviest = np.sort(sum(np.roll(weight, -shift) for shift in shifts))[::-1].cumsum()
        return 0 if target <= 0 else int(np.searchsorted(heaviest, target)) + 1

    def overtake(a: int, b: int) -> int:
        return buckets(1 + (f == a) - 1 * (f == b), n[a] - n[b] + (b > a))

    top = int(np.argmax(n))
    if not with_runoff:
        return top, min(overtake(top, j) for j in range(classes) if j != top) - 1
    election = hold_election(scores[None])
    c, s = int(election.winner[0]), int(election.finalist[0])
    others = [j for j in range(classes) if j != c]
    alone = {j: overtake(c, j) for j in others}
    first = second = m
    for a, b in combinations(others, 2):
        gap = 2 * n[c] - n[a] - n[b] + (a > c) + (b > c)
        together = buckets(1 + 2 * (f == c) - 1 * (f == a) - 1 * (f == b), gap)
        first = min(first, max(alone[a], alone[b], together))
    for j in others:
        prefer = scores[:, c] >= scores[:, j] if c < j else scores[:, c] > scores[:, j]
        win = buckets(2 * prefer, 2 * int(prefer.sum()) - m + (j > c))
        second = min(second, max(0 if j == s else overtake(s, j), win))
    return c, min(first, second) - 1


def finite(points: int, k: int, classes: int, d: int, loop_points: int, repeats: int) -> bool:
    """Print the rows of Finite Aggregation; whether arrays and loop agree."""
    scores = synthetic_scores(points, k * d, classes)
    shifts = np.random.default_rng(1).choice(k * d, d, replace=False).tolist()
    chosen = votes(scores)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    methods: dict[str, Callable[[], Result]] = {
        "finite aggregation": lambda: [*certify_finite(chosen, shifts, classes)],
        "its run-off": lambda: [*certify_finite_runoff(scores, shifts)],
    }
    print(f"\n{points} points x {k * d} classifiers (k = {k}, d = {d}) x {classes} classes")
    agree = True
    for position, (name, work) in enumerate(methods.items()):
        fast, arrays = timed(work, 1 if position else repeats)
        slow, loop = timed(
            lambda by=position: list(
                np.array([finite_point(scores[i], shifts, bool(by)) for i in range(loop_points)]).T
            ),
            1,
        )
        same = all(np.array_equal(a[:loop_points], b) for a, b in zip(arrays, loop, strict=True))
        scaled = slow * points / loop_points
        print(f"{name:<24}{fast:9.3f} s   {'once' if position else f'best of {repeats}'}")
        print(f"{'loop over test points':<24}{scaled:9.1f} s   scaled: {slow:.2f} s for {loop_points} points, once")
        print(f"{'ratio':<24}{scaled / fast:9.1f}")
        print(f"{'predictions and radii':<24}{'agree' if same else 'DIFFER':>9}   on {loop_points} points")
        agree &= same
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{'memory, beside the input':<24}{grown:9.0f} MiB (the scores are {scores.nbytes >> 20} MiB)")
    return agree


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
    defaults = {"points": 10_000, "classifiers": 50, "classes": 10, "spread": 16, "loop-points": 200, "repeats": 5}
    for name, default in defaults.items():
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
    size = options.points, options.classifiers, options.classes, options.spread
    if not finite(*size, min(options.loop_points, options.points), options.repeats) or not agree:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
