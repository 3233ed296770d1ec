"""A copy of the project that is run whole, and what its artefacts hold."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mithridate.digests import digest
from tests.workflow.conftest import Project, checkout

TINY, SHORT = (Path(__file__).with_name(f"{name}.yaml") for name in ("tiny", "short"))
SHORT_TARGETS = ("results/dpa_cert.csv", "results/rab_cert.csv", "results/pictures/certified_accuracy.svg")
NO_RESULTS = {"logs", "benchmarks", "checkpoints", "run", "README.md"}  # below results/: about the run, or not read


@dataclass(frozen=True)
class Run:
    """One command in one folder: `snakemake --cores 2 TARGETS --configfile …`."""

    project: Project
    targets: tuple[str, ...]
    overlays: tuple[Path, ...]

    @classmethod
    def fresh(cls, folder: Path, like: "Run", *, keep: bool = False) -> "Run":
        """The same command in a new copy of the project; keep: with the results that are in the folder."""
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
        return cls(checkout(folder), like.targets, like.overlays)

    @property
    def results(self) -> Path:
        return self.project.path("")

    def command(self) -> list[str]:
        overlays = ["--configfile", *map(str, self.overlays)] if self.overlays else []
        return [sys.executable, "-m", "snakemake", *self.targets, "--cores", "2", *overlays]

    def start(self, log: Path) -> subprocess.Popen:
        """In a process group of its own, which its jobs belong to."""
        with log.open("w") as file:
            return subprocess.Popen(
                self.command(), cwd=self.project.folder, env=self.project.environment,
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def finish(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(), cwd=self.project.folder, env=self.project.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def unlock(self) -> None:
        """As the README says, without any configuration."""
        command = [sys.executable, "-m", "snakemake", "--unlock"]
        subprocess.run(command, cwd=self.project.folder, env=self.project.environment, check=True, capture_output=True)

    def artefacts(self) -> Iterator[Path]:
        for path in sorted(self.results.rglob("*")):
            about = path.relative_to(self.results)
            if path.is_file() and not NO_RESULTS & set(about.parts) and not path.name.startswith("."):
                yield path

    def contents(self) -> dict[str, str]:
        """Digests of all artefacts by name, but for provenance and times."""
        return {str(path.relative_to(self.results)): content(path) for path in self.artefacts()}

    def left(self) -> list[Path]:
        """Half-written files."""
        return list(self.results.rglob("*.part"))


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def errors(output: str) -> set[str]:
    """The files that error lines name."""
    return {name.rstrip(":") for name in re.findall(r"^error: (results/\S+)", output, re.M)}


def content(path: Path) -> str:
    """A digest of what an artefact holds."""
    data = path.read_bytes()
    if path.suffix == ".safetensors" or (path.suffix == ".h5" and path.name != "repaired.h5"):
        return digest(path)
    if path.suffix == ".csv":
        table = pd.read_csv(io.BytesIO(data), dtype=str)
        data = table.drop(columns=[name for name in table if "seconds" in name]).to_csv().encode()
    elif path.suffix == ".html" and b"seconds" in data:
        return "the page of a table with times"
    elif path.parent.name == "runs":
        known = {
            key: value for key, value in json.loads(data).items() if key not in ("seconds", "jobs")
        }  # measured ones
        data = repr(known | {"tables": list(known["tables"])}).encode()  # whose sums tell times too
    return hashlib.sha256(data).hexdigest()


def is_root() -> bool:
    return os.geteuid() == 0
