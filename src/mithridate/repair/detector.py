"""STRIP made ready for one network, and the file that holds it: strip.h5 of a GoodNet."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from mithridate.artefacts import open_hdf5, read_attributes, write_hdf5
from mithridate.errors import InputError, brief
from mithridate.options.badnet import StripOptions
from mithridate.progress import Progress
from mithridate.repair.split import Split
from mithridate.repair.strip import Boundary, Strip, calibrate

LEVELS = 255


@dataclass(frozen=True, eq=False)
class Detector:
    """STRIP on a network, its overlays, and the boundary that was set on the statistics `calibration`."""

    strip: Strip
    overlays: np.ndarray
    calibration: np.ndarray
    boundary: Boundary

    def values(self, images: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """The statistic of images float32 [n,C,H,W] in [0, 1], float64 [n]."""
        return self.strip.values(images, progress)


def make_detector(
    network: nn.Module,
    images: np.ndarray,
    split: Split,
    options: StripOptions,
    *,
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Detector:
    """A detector out of clean held-out images float32 [n,C,H,W] in [0, 1]. Raises InputError where they are too few."""
    overlays = whole(images[split.overlays])
    strip = Strip(network, overlays, options=options, seed=seed, device=device)
    calibrate(
        np.arange(float(len(split.calibration))), options.frr, options.boundary
    )  # too few are refused before work
    values = strip.values(images[split.calibration], progress)
    return Detector(strip, overlays, values, calibrate(values, options.frr, options.boundary))


def save_detector(path: str | Path, detector: Detector, provenance: Mapping[str, Any]) -> None:
    """Write overlays, calibration statistics, options, seed and boundary."""
    arrays = {"overlays": detector.overlays, "calibration": detector.calibration}
    notes = {"options": detector.strip.options.model_dump(mode="json"), "seed": detector.strip.seed}
    write_hdf5(path, arrays, {**notes, "boundary": detector.boundary.value}, provenance)


def load_detector(path: str | Path, network: nn.Module, device: str = "cpu") -> Detector:
    """The detector of a file, on the network that it was made for. Raises InputError for a damaged or foreign file."""
    attributes = read_attributes(path)
    with open_hdf5(path, "overlays", "calibration") as file:
        overlays, calibration = file["overlays"][()], file["calibration"][()]
    try:
        options, seed = StripOptions(**json.loads(attributes["options"])), int(attributes["seed"])
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} is no detector of this workflow ({brief(error)}): delete it and make it again."
        ) from error
    if overlays.ndim != 4 or calibration.ndim != 1:
        raise InputError(f"{path} holds no overlays [n,C,H,W] and their statistics [n]: copy or make it again.")
    try:
        strip = Strip(network, overlays, options=options, seed=seed, device=device)
        return Detector(strip, overlays, calibration, calibrate(calibration, options.frr, options.boundary))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def whole(images: np.ndarray) -> np.ndarray:
    """Images float32 in [0, 1] as uint8 where all their pixels are k/255, else as they are."""
    levels = np.rint(images * LEVELS).astype(np.uint8)
    return levels if np.array_equal(levels.astype(np.float32) / np.float32(LEVELS), images) else images
