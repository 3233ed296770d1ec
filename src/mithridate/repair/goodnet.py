"""What a repaired network ("GoodNet") says, and how well: a class 0 to C − 1, or C, which means "backdoored input".

Rules and metrics are functions of arrays of classes and flags alone.
"""

import numpy as np

from mithridate.certify.intervals import clopper_pearson
from mithridate.errors import InputError
from mithridate.options.badnet import Rule


def goodnet_output(
    rule: Rule,
    num_classes: int,
    *,
    badnet: np.ndarray | None = None,
    repaired: np.ndarray | None = None,
    flagged: np.ndarray | None = None,
) -> np.ndarray:
    """Outputs int64 [n], C = num_classes, of the classes [n] of the suspicious and of the repaired network and of
    STRIP's flags bool [n]; what a rule does not need may be left out.

    agreement: the suspicious network's class where the repaired one agrees, else C (Liu et al., RAID 2018, as the
    published starter code has it); repaired: the repaired one's class; strip: C where flagged, else the suspicious
    one's class; combination: C where flagged, else the repaired one's class.
    """
    if rule == "agreement":
        first, second = _given(rule, badnet=badnet, repaired=repaired)
        return np.where(first == second, first, num_classes).astype(np.int64)
    if rule == "repaired":
        return _given(rule, repaired=repaired)[0].astype(np.int64)
    if rule == "strip":
        classes, flags = _given(rule, badnet=badnet, flagged=flagged)
    elif rule == "combination":
        classes, flags = _given(rule, repaired=repaired, flagged=flagged)
    else:
        raise InputError(f"output rule {rule!r} is unknown: choose agreement, repaired, strip or combination.")
    return np.where(flags.astype(bool), num_classes, classes).astype(np.int64)


def clean_metrics(output: np.ndarray, labels: np.ndarray, num_classes: int, confidence: float) -> dict[str, float]:
    """On clean images: clean_accuracy (C counts as wrong), frr (the share flagged), accuracy_unflagged (among images
    that are not flagged; NaN where all are), each with its Clopper–Pearson interval *_low, *_high; and n_clean.

    Raises InputError where there is no image.
    """
    _same_length(output, labels)
    right, flagged = output == labels, output == num_classes
    return {
        "n_clean": len(output),
        **_rate("clean_accuracy", right, confidence),
        **_rate("frr", flagged, confidence),
        **_rate("accuracy_unflagged", right[~flagged], confidence, none=True),
    }


def triggered_metrics(
    output: np.ndarray,
    labels: np.ndarray | None,
    targets: np.ndarray | int,
    num_classes: int,
    confidence: float,
) -> dict[str, float]:
    """On triggered images of other classes than their target: asr (taken for the target), flagged, far (false
    acceptance: not flagged), recovered (taken for the true class), each with its Clopper–Pearson interval *_low,
    *_high; and n_triggered.

    labels [n] are the true classes, None where they are not known, as in the published poisoned files: then no image is
    left out, and recovered is NaN. targets: one class, or one per image [n]. Raises InputError where no image is left.
    """
    aims = np.asarray(targets) if np.ndim(targets) else np.full(len(output), targets)
    _same_length(output, aims)
    keep = np.ones(len(output), bool)
    if labels is not None:
        _same_length(output, labels)
        keep = labels != aims
    said, aims = output[keep], aims[keep]
    recovered = np.zeros(0, bool) if labels is None else said == labels[keep]
    return {
        "n_triggered": len(said),
        **_rate("asr", said == aims, confidence),
        **_rate("flagged", said == num_classes, confidence),
        **_rate("far", said != num_classes, confidence),
        **_rate("recovered", recovered, confidence, none=labels is None),
    }


def _given(rule: str, **arrays: np.ndarray | None) -> list[np.ndarray]:
    missing = [name for name, array in arrays.items() if array is None]
    found = [np.asarray(array) for array in arrays.values() if array is not None]
    if missing or len({array.shape for array in found}) > 1:
        raise InputError(f"output rule {rule} needs {' and '.join(arrays)}, one value per image each: give them.")
    return found


def _same_length(output: np.ndarray, labels: np.ndarray) -> None:
    if output.shape != labels.shape:
        raise InputError(f"there are {len(output)} outputs but {len(labels)} labels: give one label per image.")


def _rate(name: str, hits: np.ndarray, confidence: float, none: bool = False) -> dict[str, float]:
    """The share of hits with its interval; without images, NaN where `none` allows it."""
    keys = (name, f"{name}_low", f"{name}_high")
    if not len(hits):
        if none:
            return dict.fromkeys(keys, np.nan)
        raise InputError(f"{name} has no image to be measured on: give images, of other classes than the target.")
    low, high = clopper_pearson(int(hits.sum()), len(hits), confidence)
    return dict(zip(keys, (float(hits.mean()), float(low), float(high)), strict=True))
