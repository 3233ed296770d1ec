"""STRIP of this workflow against IBM ART's, on the same network.

    python benchmarks/strip_art.py --goodnet results/digits28/badnet/square-t0-r0.2-n0/goodnet \\
        --clean results/digits28/badnet/data/test.h5 --triggered results/digits28/badnet/data/square-t0.h5 \\
        [--held-out results/digits28/badnet/data/held_out.h5 --inputs 200 --overlays 100 --frr 0.01]

Both blend an input with each overlay half and half and set a normal boundary at the same false rejection rate; ours is
told so (overlay: convex, boundary: normal). Both run on one thread, in a process prepared as the workflow's are, on a
network with the workflow's memory layout. ART lays the images that it is calibrated on over its inputs, so it gets our
overlays and our calibration images together; held-out images are split as the workflow does (default badnet.split,
seed 0), which is checked.

ART 1.20.1 takes entropies over the overlays, class by class (`entropy(…, axis=0)`), not over the classes as Gao et al.
(2019), equation 3, and we do. So it runs as it is, and with that one argument mended. Then overlays still differ. How
much that makes by chance, "ours, other seed" shows; and in the last row ART, mended, is made to draw our overlays and
given our boundary, so that only the arithmetic is left to differ.
"""

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

os.environ["TQDM_DISABLE"] = "1"

import numpy as np
from art.defences.transformer.poisoning import STRIP
from art.estimators.classification import PyTorchClassifier
from art.estimators.poison_mitigation.strip import strip as art_strip
from torch import nn

from mithridate import device
from mithridate.certify.intervals import clopper_pearson
from mithridate.data.faces import open_faces
from mithridate.options.badnet import SplitOptions, StripOptions
from mithridate.repair.delivered import GoodNet
from mithridate.repair.detector import Detector, make_detector, whole
from mithridate.repair.split import split_held_out

SEED = 0
LIMITS = """What ART's interface does not allow:
  - other overlays than the calibration images: they are drawn from those by NumPy's global generator, with repetition,
    the image itself included, and anew at every call, so that an input's answer changes from call to call
  - another blend than half and half (our default is a sum that saturates), or the number of distinct classes
  - another boundary than a normal quantile (our default is the empirical one)
  - the entropies themselves: predict() gives probabilities, all zero where it abstains; here they are overheard
  - several inputs at once: each is blended in a loop and has a DataLoader of its own
Its false_acceptance_rate is the rate at which clean inputs are rejected."""


@dataclass(frozen=True, eq=False)
class Found:
    """Of the clean inputs, then the triggered ones: entropies float64 [n] and flags bool [n]; seconds for all."""

    entropies: np.ndarray
    flagged: np.ndarray
    clock: float
    processor: float


def ours(detector: Detector, x: np.ndarray) -> Found:
    start = time.perf_counter(), time.process_time()
    values = detector.values(x)
    flagged = detector.boundary.flags(values)
    return Found(values, flagged, time.perf_counter() - start[0], time.process_time() - start[1])


def arts(
    detector: Detector, clean: np.ndarray, x: np.ndarray, classes: int, *, axis: int | None = None, alike: bool = False
) -> Found:
    """ART's, set up on clean images for the detector's network; axis: over which entropies are taken, if not as ART
    does. alike: with the detector's overlays, which `clean` are, and its boundary."""
    strip, options = detector.strip, detector.strip.options
    model = nn.Sequential(strip.network, nn.Softmax(1))
    classifier = PyTorchClassifier(model, nn.CrossEntropyLoss(), x.shape[1:], classes, device_type="cpu")
    defended = STRIP(classifier)(num_samples=options.overlays, false_acceptance_rate=options.frr)
    np.random.seed(SEED)  # noqa: NPY002 - it is what ART draws from
    drawn = patch.object(np.random, "choice", side_effect=list(strip.chosen(x))) if alike else nullcontext()
    with overheard(axis) as entropies, drawn:
        if alike:
            defended.validation_data, defended.entropy_threshold = clean, detector.boundary.value
        else:
            defended.mitigate(clean)
        entropies.clear()
        start = time.perf_counter(), time.process_time()
        answers = defended.predict(x)
        spent = time.perf_counter() - start[0], time.process_time() - start[1]
    found = Found(np.array(entropies), ~answers.any(1), *spent)
    assert (found.flagged == (found.entropies <= defended.entropy_threshold)).all()
    return found


@contextmanager
def overheard(mended: int | None) -> Iterator[list[float]]:
    """The statistics that ART computes in the block, from entropies over the axis `mended` if it is given."""
    heard, original = [], art_strip.entropy

    def entropy(p: np.ndarray, base: float, axis: int) -> np.ndarray:
        found = original(p, base=base, axis=axis if mended is None else mended)
        heard.append(float(np.sum(found) / float(len(p))))  # as ART has it
        return found

    art_strip.entropy = entropy
    try:
        yield heard
    finally:
        art_strip.entropy = original


def load(path: Path, goodnet: GoodNet, count: int | None = None) -> np.ndarray:
    """Images drawn from a file, in [0, 1]; of triggered ones, none whose own class is the target."""
    with open_faces(path, goodnet.shape, goodnet.num_classes) as faces:
        rows = np.arange(len(faces)) if faces.true_labels is None else np.flatnonzero(faces.true_labels != faces.labels)
        return faces.images(np.sort(np.random.default_rng(SEED).permutation(rows)[:count]))


def share(hits: np.ndarray) -> str:
    low, high = clopper_pearson(int(hits.sum()), len(hits), 0.95)
    return f"{hits.mean():7.1%} [{low:6.1%}, {high:6.1%}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goodnet", type=Path, required=True)
    parser.add_argument("--clean", type=Path, required=True)
    parser.add_argument("--triggered", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, default=Path("results/digits28/badnet/data/held_out.h5"))
    parser.add_argument("--inputs", type=int, default=200, help="of either file")
    parser.add_argument("--overlays", type=int, default=100)
    parser.add_argument("--frr", type=float, default=0.01)
    given = parser.parse_args()
    device.prepare()
    goodnet = GoodNet(given.goodnet)
    held_out = load(given.held_out, goodnet)
    split = split_held_out(np.arange(len(held_out)), SplitOptions(), SEED)
    if not np.array_equal(whole(held_out[split.overlays]), goodnet.detector.overlays):
        parser.error(f"{given.held_out} in the default split is not what {given.goodnet} was made from")
    clean, triggered = (load(path, goodnet, given.inputs) for path in (given.clean, given.triggered))
    x, n = np.concatenate([clean, triggered]), len(clean)
    options = StripOptions(overlays=given.overlays, overlay="convex", boundary="normal", frr=given.frr)
    both = held_out[np.concatenate([split.overlays, split.calibration])]
    own, other = (make_detector(goodnet.suspicious, held_out, split, options, seed=seed) for seed in (SEED, SEED + 1))
    art, classes = f"ART {version('adversarial-robustness-toolbox')}", goodnet.num_classes
    found = {
        "ours": (first := ours(own, x)),
        "ours, other seed": ours(other, x),
        art: arts(own, both, x, classes),
        "ART mended": arts(own, both, x, classes, axis=1),
        "the same, alike": arts(own, held_out[split.overlays], x, classes, axis=1, alike=True),
    }
    print(f"{given.goodnet}: {n} clean inputs of {given.clean.name}, {len(triggered)} of {given.triggered.name};")
    print(
        f"{given.overlays} overlays, normal boundary at {given.frr:.1%}; ours from {len(split.overlays)} overlays and",
        end="",
    )
    print(f" {len(split.calibration)} calibration images, ART from the {len(both)} together. 95 % intervals.")
    print(f"{'':19s} {'flagged: clean':>26s} {'triggered':>26s} {'s, CPU s per 1,000 inputs':>26s}")
    for name, one in found.items():
        print(f"{name:19s} {share(one.flagged[:n]):>26s} {share(one.flagged[n:]):>26s}", end="")
        print(f" {1000 * one.clock / len(x):17.2f} {1000 * one.processor / len(x):8.2f}")
    print(f"{'with ours':19s} {'same decision: clean':>26s} {'triggered':>26s} {'r: clean, all':>17s} {'largest':>8s}")
    for name, one in list(found.items())[1:]:
        same, apart = one.flagged == first.flagged, np.abs(one.entropies - first.entropies).max()
        r = [np.corrcoef(one.entropies[part], first.entropies[part])[0, 1] for part in (slice(n), slice(None))]
        print(f"{name:19s} {share(same[:n]):>26s} {share(same[n:]):>26s} {r[0]:10.3f} {r[1]:6.3f} {apart:8.1e}")
    print("r: Pearson's correlation of entropies; largest: difference of two entropies, bits.")
    print(LIMITS)


if __name__ == "__main__":
    main()
