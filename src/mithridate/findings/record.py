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
from mithridate.errors import InputError
from mithridate.findings.compare import findings
from mithridate.findings.configuration import changed, load, of_part, repeat
from mithridate.findings.page import alone, page
from mithridate.findings.parts import TABLES
from mithridate.findings.runs import describe
from mithridate.findings.settings import Configs, papers

RUN, FINDINGS, PAGE = "run.json", "findings.csv", "README.md"
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
) -> Path:
    """Write docs/results/NAME/ from a folder of results that may have been computed elsewhere, and the page anew.

    Needed in the folder: runs/PART.json of every part that is to be recorded, and its final tables; or, where the
    configuration files of the run are given, its benchmarks and some artefacts in place of runs/. Raises InputError
    where something is missing, and for a name that is no plain one. Returns the folder.
    """
    results, docs = Path(results), Path(docs)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+-]*", name):
        raise InputError(f"{name!r} is no name for a record: take letters, digits, _, + and -.")
    runs = load_runs(results) if files is None else described(results, files)
    tables = load_tables(results, runs)
    found = findings(tables, runs, papers(config))
    whole = {"name": name, "parts": {run["part"]: run for run in runs}}
    folder = docs / name
    shutil.rmtree(folder, ignore_errors=True)
    for table in tables:
        write_bytes(folder / f"{table}.csv", (results / f"{table}.csv").read_bytes())
    for run in runs:
        for source in sorted((results / "pictures").glob(PICTURES.get(run["part"], "none"))):
            within = source.relative_to(results / "pictures").parts[1:-1]  # the name of an attack
            write_bytes(folder / "_".join([run["part"], *within, source.name]), source.read_bytes())
    write_csv(folder / FINDINGS, found, checksum=False)
    write_bytes(folder / RUN, (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode())
    known = load_records(docs)
    write_bytes(folder / PAGE, alone(name, *known[name]).encode())
    write_bytes(docs / PAGE, page(known).encode())
    return folder


def load_runs(results: Path) -> list[dict[str, Any]]:
    """What is known of each part of a run, in the order of the parts."""
    paths = [results / "runs" / f"{part}.json" for part in TABLES]
    runs = [read_json(path) for path in paths if path.is_file()]
    if not runs:
        raise InputError(f"{results}/runs holds no PART.json: `snakemake results/runs/dpa.json` makes one.")
    return runs


def described(results: Path, files: Sequence[str]) -> list[dict[str, Any]]:
    """The same of every part whose tables are there, from artefacts and benchmarks."""
    options = load(*files)
    parts = [part for part, names in TABLES.items() if all((results / f"{name}.csv").is_file() for name in names)]
    if not parts:
        raise InputError(f"{results} holds the final tables of no part: let the workflow make them.")
    about = {part: (of_part(part, options), changed(part, options), repeat(part, options, files)) for part in parts}
    return [describe(results, part, *own) for part, own in about.items()]


def load_tables(folder: Path, runs: Sequence[Mapping[str, Any]]) -> dict[str, pd.DataFrame]:
    """The final tables of the parts, by name. Raises InputError for one that is not what its run was summed up from."""
    found = {}
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
    found = {}
    for path in sorted(docs.glob(f"*/{RUN}")):
        runs = list(json.loads(path.read_text())["parts"].values())
        table = pd.read_csv(path.with_name(FINDINGS), keep_default_na=False, na_values=[""])
        found[path.parent.name] = (runs, table, sorted(picture.name for picture in path.parent.glob("*.svg")))
    return found


def remake(docs: Path, of_papers: Configs) -> Iterator[tuple[str, pd.DataFrame]]:
    """The findings of every recorded run, made anew from its recorded tables."""
    for name, (runs, _, _) in load_records(docs).items():
        yield name, findings(load_tables(docs / name, runs), runs, of_papers)
