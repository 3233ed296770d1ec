"""What the artefacts behind a run's tables were made with: commit, versions, devices."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from mithridate.artefacts import PROVENANCE, open_hdf5, read_provenance
from mithridate.report.lineage import Job

OF_ONE_JOB = ["seconds", "seconds_per_1000", "peak_gpu_bytes"]


def provenance(path: Path) -> dict[str, Any]:
    """The provenance of an artefact; empty of a file that has none and of one that is there no more."""
    if path.suffix not in (".h5", ".safetensors") or not path.is_file():
        return {}
    if path.suffix == ".h5":
        with open_hdf5(path) as file:
            if PROVENANCE not in file:  # for Keras
                return {}
    return read_provenance(path)


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
