"""What a suspicious network, its repairs and STRIP say of every image of a file: for evaluation only.

The file of a judged file (`Judged`) holds plain arrays, so that all tables and pictures are functions of those.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from mithridate.artefacts import open_hdf5, read_attributes, read_provenance, write_hdf5
from mithridate.data.faces import Faces
from mithridate.errors import InputError
from mithridate.progress import Progress
from mithridate.repair.detector import Detector
from mithridate.repair.predict import predictions
from mithridate.repair.pruning import Pruner

PIECE = 1024  # images in memory at once
SUSPICIOUS, TWIN, STRIP = "suspicious", "twin", "strip"
SECONDS = "seconds"


@dataclass(frozen=True, eq=False)
class Judged:
    """labels int64 [n] (of triggered images the target), true_labels int64 [n] where they are known; by network
    (suspicious, perhaps twin, and the repairs) the predicted classes int64 [n]; STRIP's statistic float64 [n] and
    flags bool [n], its boundary; the share of images that get their label at each step of pruning, float64 [steps],
    those of the label's own true class left out (empty: weight-range); seconds of work by network and for STRIP."""

    labels: np.ndarray
    true_labels: np.ndarray | None
    classes: dict[str, np.ndarray]
    statistic: np.ndarray
    flagged: np.ndarray
    boundary: float
    curve: np.ndarray
    num_classes: int
    seconds: dict[str, float]


def judge(
    faces: Faces,
    networks: Mapping[str, nn.Module],
    detector: Detector,
    num_classes: int,
    *,
    triggered: bool,
    pruning: tuple[str, pd.DataFrame] | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Judged:
    """Ask everything about every image. `networks` has the suspicious one as SUSPICIOUS; pruning: the layer and curve
    of Pruner.curve, of which each step is evaluated. Only of triggered images are true labels another thing."""
    faces = faces if triggered else replace(faces, true_labels=None)
    if faces.true_labels is not None and (faces.true_labels == faces.labels).all():
        raise InputError(
            f"{faces.path}: true_label is label for every image, so that none tests the attack: give triggered images"
            " of other classes than the target."
        )
    classes: dict[str, list[np.ndarray]] = {name: [] for name in networks}
    seconds, values = dict.fromkeys([*networks, STRIP], 0.0), []
    for images in _pieces(faces):
        for name, network in networks.items():
            start = time.perf_counter()
            classes[name].append(predictions(network, images, device=device))
            seconds[name] += time.perf_counter() - start
        start = time.perf_counter()
        try:
            values.append(detector.values(images, progress))
        except InputError as error:
            raise InputError(f"{faces.path}: {error}") from error
        seconds[STRIP] += time.perf_counter() - start
    statistic = np.concatenate(values)
    return Judged(
        faces.labels,
        faces.true_labels,
        {name: np.concatenate(found) for name, found in classes.items()},
        statistic,
        detector.boundary.flags(statistic),
        detector.boundary.value,
        np.zeros(0) if pruning is None else _curve(faces, networks[SUSPICIOUS], *pruning, device),
        num_classes,
        seconds,
    )


def save_judged(path: str | Path, judged: Judged, provenance: Mapping[str, Any]) -> None:
    """Write it; what was timed goes into the provenance."""
    arrays = {f"classes/{name}": found for name, found in judged.classes.items()}
    arrays |= {name: getattr(judged, name) for name in ("labels", "statistic", "flagged", "curve")}
    if judged.true_labels is not None:
        arrays["true_labels"] = judged.true_labels
    notes = {"boundary": judged.boundary, "num_classes": judged.num_classes, "networks": list(judged.classes)}
    write_hdf5(path, arrays, notes, {**provenance, SECONDS: judged.seconds})


def load_judged(path: str | Path) -> Judged:
    """Raises InputError for a damaged or foreign file."""
    attributes = read_attributes(path)
    try:
        names, seconds = json.loads(attributes["networks"]), json.loads(read_provenance(path)[SECONDS])
        boundary, num_classes = float(attributes["boundary"]), int(attributes["num_classes"])
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} is no judged file of this workflow: delete it and make it again.") from error
    arrays = ("labels", "statistic", "flagged", "curve")
    with open_hdf5(path, *arrays, *(f"classes/{name}" for name in names)) as file:
        labels, statistic, flagged, curve = (file[name][()] for name in arrays)
        classes = {name: file[f"classes/{name}"][()] for name in names}
        true = file["true_labels"][()] if "true_labels" in file else None
    return Judged(labels, true, classes, statistic, flagged, boundary, curve, num_classes, seconds)


def _curve(faces: Faces, network: nn.Module, layer: str, curve: pd.DataFrame, device: str) -> np.ndarray:
    pruner = Pruner(network, layer, faces.shape, device=device)
    used = np.ones(len(faces), bool) if faces.true_labels is None else faces.true_labels != faces.labels
    hits, count = np.zeros(len(curve)), int(used.sum())
    for start in range(0, len(faces), PIECE):
        rows = np.arange(start, min(start + PIECE, len(faces)))
        if len(rows := rows[used[rows]]):
            hits += pruner.evaluate(curve, faces.images(rows), faces.labels[rows]) * len(rows)
    return np.rint(hits) / max(1, count)


def _pieces(faces: Faces) -> Iterator[np.ndarray]:
    for start in range(0, len(faces), PIECE):
        yield faces.images(slice(start, start + PIECE))
