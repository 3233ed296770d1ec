"""Keeps what a run found, in docs/results: NAME/ with tables, findings, run.json, pictures, a page; a page over all."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mithridate.artefacts import read_csv, read_json, write_csv
from mithridate.atomic import write_bytes
from mithridate.errors import InputError, short
from mithridate.findings.compare import findings
from mithridate.findings.configuration import changed, of_part, repeat
from mithridate.findings.page import alone, page
from mithridate.findings.parts import TABLES
from mithridate.findings.runs import describe
from mithridate.findings.settings import papers
from mithridate.options.reading import check

RUN, FINDINGS, PAGE = "run.json", "findings.csv", "README.md"
KEPT = f"[!.]*/{RUN}"
PICTURES = {
    "dpa": "certified_accuracy.svg",
    "backdoor": "backdoor/*/success_rate.svg",
    "smoothing": "smoothing/average_radii.svg",
    "badnet": "badnet/defences.svg",
    "dgn": "dgn/matrix.svg",
}
"""Below results/pictures/, by part: those that are kept, where they were made."""


def record(
    results: str | Path,
    name: str,
    docs: str | Path = "docs/results",
    config: str | Path = "config",
    files: Sequence[str] | None = None,
    parts: Sequence[str] = tuple(TABLES),
) -> Path:
    """Write docs/results/NAME/ from a folder of results that may have been computed elsewhere, and the page anew.

    Needed in the folder: runs/PART.json of every part that is to be recorded, and its final tables; or, where the
    configuration files of the run are given, its benchmarks and some artefacts in place of runs/; of it, `parts` are
    taken. Raises InputError where something is missing, where parts are of different runs, and for a name
    that is no plain one. Returns the folder.
    """
    results, docs = Path(results), Path(docs)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+-]*", name):
        raise InputError(f"{name!r} is no name for a record: take letters, digits, _, + and -.")
    runs = load_runs(results, parts) if files is None else described(results, files)
    _check_shared(results, runs)
    tables = load_tables(results, runs)
    found = findings(tables, runs, papers(config))
    whole = {"name": name, "parts": {run["part"]: run for run in runs}}
    folder, new = docs / name, docs / f".{name}.part"
    shutil.rmtree(new, ignore_errors=True)
    for table in tables:
        write_bytes(new / f"{table}.csv", (results / f"{table}.csv").read_bytes())
    for kept, source in _pictures(results / "pictures", tables, runs):
        write_bytes(new / kept, source.read_bytes())
    write_csv(new / FINDINGS, found, checksum=False)
    write_bytes(new / RUN, (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode())
    write_bytes(new / PAGE, alone(name, *_load_record(new)).encode())
    old = docs / f".{name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    write_bytes(docs / PAGE, page(load_records(docs)).encode())
    return folder


def _pictures(
    folder: Path, tables: Mapping[str, pd.DataFrame], runs: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, Path]]:
    """Names in the record, and where the pictures lie; of backdoors those of attacks in the table."""
    for run in runs:
        for source in sorted(folder.glob(PICTURES.get(run["part"], "none"))):
            within = source.relative_to(folder).parts[1:-1]  # the name of an attack
            if not within or set(within) <= set(tables["backdoor_matrix"]["attack"]):
                yield "_".join([run["part"], *within, source.name]), source


def _check_shared(results: Path, runs: Sequence[Mapping[str, Any]]) -> None:
    """That all parts are of one run: they agree in what they share."""
    for key in dict.fromkeys(key for run in runs for key in run["configuration"]):
        values = {run["part"]: run["configuration"][key] for run in runs if key in run["configuration"]}
        if len({json.dumps(value, sort_keys=True) for value in values.values()}) > 1:
            said = ", ".join(f"{part}: {short(str(value))}" for part, value in values.items())
            raise InputError(
                f"{results}/runs is of several runs, with different {key} ({said}): move the PART.json of all but one"
                " elsewhere."
            )


def load_runs(results: Path, parts: Sequence[str] = tuple(TABLES)) -> list[dict[str, Any]]:
    """What is known of those parts of a run that are there."""
    paths = [results / "runs" / f"{part}.json" for part in parts]
    runs = [read_json(path) for path in paths if path.is_file()]
    if not runs:
        raise InputError(f"{results}/runs holds no PART.json: `snakemake results/runs/dpa.json` makes one.")
    return runs


def described(results: Path, files: Sequence[str]) -> list[dict[str, Any]]:
    """The same of every part whose tables are there, from artefacts and benchmarks."""
    options = check(files)
    parts = [part for part, names in TABLES.items() if all((results / f"{name}.csv").is_file() for name in names)]
    if not parts:
        raise InputError(f"{results} holds the final tables of no part: let the workflow make them.")
    about = {part: (of_part(part, options), changed(part, options), repeat(part, options, files)) for part in parts}
    return [describe(results, part, *own) for part, own in about.items()]


def load_tables(folder: Path, runs: Sequence[Mapping[str, Any]]) -> dict[str, pd.DataFrame]:
    """The final tables of the parts, by name. Raises InputError for one that is not what its run was summed up from."""
    found = {}
    for run in runs:
        if not isinstance(run["tables"], dict):
            raise InputError(
                f"{folder}: {run['part']} was summed up by an older version: let the workflow do it again."
            )
    for name, known in [known for run in runs for known in run["tables"].items()]:
        path = folder / f"{name}.csv"
        found[name] = read_csv(path, keep_default_na=False, na_values=[""])
        if hashlib.sha256(path.read_bytes()).hexdigest() != known:
            raise InputError(
                f"{path} is not the table that this run ended with: copy it again with runs/, or delete the part's"
                " runs/PART.json and let the workflow make it again."
            )
    return found


def load_records(docs: Path) -> dict[str, tuple[list[dict[str, Any]], pd.DataFrame, list[str]]]:
    """Of every recorded run: its parts, findings and pictures."""
    return {path.parent.name: _load_record(path.parent) for path in sorted(docs.glob(KEPT))}


def _load_record(folder: Path) -> tuple[list[dict[str, Any]], pd.DataFrame, list[str]]:
    runs = list(read_json(folder / RUN)["parts"].values())
    table = read_csv(folder / FINDINGS, keep_default_na=False, na_values=[""])
    return runs, table, sorted(picture.name for picture in folder.glob("*.svg"))


def again(docs: str | Path = "docs/results", config: str | Path = "config") -> None:
    """Make the findings and pages of all records anew from their tables, e.g. after a change of published.csv."""
    docs, of_papers = Path(docs), papers(config)
    for path in sorted(docs.glob(KEPT)):
        folder, runs = path.parent, list(read_json(path)["parts"].values())
        write_csv(folder / FINDINGS, findings(load_tables(folder, runs), runs, of_papers), checksum=False)
        write_bytes(folder / PAGE, alone(folder.name, *_load_record(folder)).encode())
    write_bytes(docs / PAGE, page(load_records(docs)).encode())
