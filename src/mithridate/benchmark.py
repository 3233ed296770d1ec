"""What Snakemake measured of a job."""

import csv
import io
from pathlib import Path

from mithridate.artefacts import read_checked
from mithridate.errors import InputError


def last_run(path: str | Path) -> dict[str, float]:
    """Seconds `s` and peak resident memory `max_rss` [MiB] of a job as it last ran; NaN where not known. Raises
    InputError for a missing or damaged file."""
    try:
        *_, row = csv.DictReader(io.StringIO(read_checked(path).decode(), newline=""), delimiter="\t")
        return {name: float("nan" if row[name] in ("NA", "-") else row[name]) for name in ("s", "max_rss")}
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path} is no whole benchmark of a job: delete it and run that job again.") from error
