"""Which jobs made a file, by Snakemake's own records."""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mithridate.errors import InputError

RECORDS = Path(".snakemake/metadata")
LONGEST = 254  # letters of a record's name beyond which it is cut into folders


@dataclass
class Job:
    """A job that made a file, or something that the file was made from."""

    rule: str
    log: str
    outputs: list[Path] = field(default_factory=list)

    @property
    def benchmark(self) -> Path:
        """Where a rule that measures itself does so: beside its log."""
        return Path(self.log.replace("results/logs/", "results/benchmarks/", 1)).with_suffix(".tsv")


def jobs(files: Iterable[str], records: Path = RECORDS) -> list[Job]:
    """All jobs behind `files`, in order of rule and log. What nobody made (a user's own file) has no record."""
    found: dict[str, Job] = {}
    seen = set(files)
    waiting = sorted(seen)
    while waiting:
        file = waiting.pop()
        record = _record(file, records)
        if record is None:
            continue
        log = record["log"][0]
        found.setdefault(log, Job(record["rule"], log)).outputs.append(Path(file))
        further = set(record["input"] or []) - seen
        seen |= further
        waiting.extend(further)
    return sorted(found.values(), key=lambda job: (job.rule, job.log))


def _record(file: str, records: Path) -> dict[str, Any] | None:
    name = base64.urlsafe_b64encode(file.encode()).decode()
    *folders, last = [name[start : start + LONGEST] for start in range(0, len(name), LONGEST)]
    path = records.joinpath(*(f"@{folder}" for folder in folders), last)
    try:
        return json.loads(path.read_text()) if path.is_file() else None
    except ValueError as error:
        raise InputError(
            f"{path}, Snakemake's record of {file}, is damaged: delete {file} and make it anew."
        ) from error
