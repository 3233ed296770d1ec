"""What the artefacts behind a run's tables were made with: commit, versions, devices."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import pandas as pd
from safetensors import safe_open

from mithridate.artefacts import PROVENANCE, read_provenance
from mithridate.report.lineage import Job

OF_ONE_JOB = ["seconds", "seconds_per_1000", "peak_gpu_bytes"]


def provenance(path: Path) -> dict[str, Any]:
    """The provenance of an HDF5 or safetensors artefact; empty of any other file and of one that is there no more."""
    if path.suffix == ".safetensors" and path.is_file():
        with safe_open(path, "np") as file:
            notes = (file.metadata() or {}).get("mithridate", "{}")
        return json.loads(notes).get(PROVENANCE, {})
    if path.suffix == ".h5" and path.is_file():
        with h5py.File(path) as file:
            known = PROVENANCE in file
        return read_provenance(path) if known else {}
    return {}


def gathered(jobs: Iterable[Job]) -> pd.DataFrame:
    """What was recorded, and in how many artefacts: rows of item, value, artefacts, the most frequent value first.

    More than one commit or configuration means that parts of a run are older than others and still hold, because their
    own code and options are the same.
    """
    made = pd.DataFrame([provenance(path) for job in jobs for path in job.outputs]).drop(
        columns=OF_ONE_JOB, errors="ignore"
    )
    rows = [
        {"item": item, "value": str(value), "artefacts": count}
        for item in sorted(map(str, made))
        for value, count in made[item].value_counts().items()
    ]
    return pd.DataFrame(rows, columns=["item", "value", "artefacts"])
