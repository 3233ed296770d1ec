"""Who is robust against whom: one network, shown every set of adversarial test images and attacked itself."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from mithridate.adversarial.examples import Examples
from mithridate.adversarial.gradient_attacks import attack, method
from mithridate.adversarial.similarity import similarity
from mithridate.adversarial.toolbox import import_art
from mithridate.errors import InputError
from mithridate.options.dgn import EvaluationOptions
from mithridate.progress import Progress
from mithridate.repair.predict import predictions
from mithridate.streams import Stream

NOTHING = {"seconds_per_1000": np.nan, "linf": 0.0, "l2": 0.0, "ssim": 1.0}
MISLED = "as_generator"


def evaluate(
    network: nn.Module,
    defence: str,
    images: np.ndarray,
    labels: np.ndarray,
    sets: Sequence[Examples],
    options: EvaluationOptions,
    *,
    epsilon: float,
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row per set and white-box attack on test images float32 [n,C,H,W] in [0, 1] with labels int64 [n]: defence,
    attack, mode, true_label, bounded, epsilon, n, right (still taken for the true class), as_generator (taken for the
    class of the generator, where that is a wrong one; else nan), seconds_per_1000, linf, l2, ssim.

    mode: clean; transfer, wrong-class and random of the sets; white-box of the attacks that options ask for, at epsilon
    and, PGD, at options.epsilons, with the true labels, on options.points images drawn from the seed. `progress` counts
    attacks.
    """
    how = {"scale": 1.0, "device": device}
    rows: list[dict[str, Any]] = []

    def note(said: np.ndarray, truth: np.ndarray, misled: float = np.nan, bounded: bool = True, **more: Any) -> None:
        counts = {"n": len(truth), "right": int((said == truth).sum()), MISLED: misled}
        rows.append({"defence": defence, **more, "bounded": bounded, **counts})
        if progress is not None:
            progress.add(1)

    clean = {"attack": "none", "mode": "clean", "true_label": False, "epsilon": 0.0}
    note(predictions(network, images, **how), labels, **clean, **NOTHING)  # type: ignore[arg-type]
    for own in sets:
        known = {"attack": own.attack, "mode": own.mode, "true_label": own.true_label, "epsilon": own.epsilon}
        said = predictions(network, own.images, **how)  # type: ignore[arg-type]
        misled = float((said == own.classes).sum()) if own.mode == "wrong-class" else np.nan
        likeness: dict[str, Any] = {"seconds_per_1000": own.seconds_per_1000, **own.likeness}
        note(said, own.labels, misled, own.bounded, **{**known, **likeness})
    x, y = images[points := attacked(len(images), options.points, seed)], labels[points]
    import_art()  # before attacks are timed
    for name, radius in white_box(options, epsilon):
        start = time.perf_counter()
        # At smaller radii PGD's steps are smaller in proportion.
        tool = method(name, options, radius / epsilon if epsilon else 1.0)
        made = attack(network, x, y, tool, epsilon=radius, seed=seed, device=device)
        seconds = 1000 * (time.perf_counter() - start) / len(x)
        known = {"attack": name, "mode": "white-box", "true_label": True, "epsilon": radius}
        likeness = {"seconds_per_1000": seconds, **{str(k): v for k, v in similarity(x, made).mean().items()}}
        note(predictions(network, made, **how), y, **{**known, **likeness})  # type: ignore[arg-type]
    return pd.DataFrame(rows)


def for_classes(options: EvaluationOptions, num_classes: int) -> EvaluationOptions:
    """The options for so many classes: the DLR loss needs three. Raises InputError where no attack of AutoAttack's is
    left."""
    versions = [name for name in options.autoattack.versions if name != "apgd-dlr" or num_classes > 2]
    if "autoattack" in options.attacks and not versions:
        raise InputError("dgn.evaluation.autoattack.versions: apgd-dlr needs at least 3 classes; name another one.")
    if not versions or versions == options.autoattack.versions:
        return options
    print(f"apgd-dlr is left out: it needs at least 3 classes, and there are {num_classes}")
    changed = options.autoattack.model_copy(update={"versions": versions})
    return options.model_copy(update={"autoattack": changed})


def white_box(options: EvaluationOptions, epsilon: float) -> list[tuple[str, float]]:
    """Attacks with their radii: each at epsilon, then PGD at the radii of the curve that it is not yet at."""
    others = sorted({radius for radius in options.epsilons if radius != epsilon or "pgd" not in options.attacks})
    return [*((str(name), epsilon) for name in options.attacks), *(("pgd", radius) for radius in others)]


def attacked(n: int, points: int | None, seed: int) -> np.ndarray:
    """Sorted positions of the test images that are attacked."""
    if points is None or points >= n:
        return np.arange(n)
    return np.sort(Stream("dgn points", seed).permutations(1, n)[0, :points])
