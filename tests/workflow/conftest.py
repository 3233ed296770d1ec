"""A copy of the project in which a test may run and edit what it likes."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
TINY = "{k: [4], d: [1], methods: [dpa, runoff], training: {steps: 4, batch_size: 8, strategy: loop}}"
SMALL = {  # what a test does not ask for is left out or made small
    "attacks": "[]",
    "greedy": "{points: 0}",
    "single": "{training: {steps: 4}}",
    "rab": "{models: 4, training: {epochs: 1}, attacks: []}",
    "smoothing": "{procedures: []}",
    "badnet": "{planted: []}",
    "dgn": "{generators: [], attacks: []}",
}
ATTACKED = {
    "dpa": "{k: [7], d: [1, 2], training: {steps: 20, batch_size: 8, strategy: loop}}",
    "attacks": "[{poisoned: [0, 1, 3], seeds: 2, d: [1, 2]}]",
    "greedy": "{k: 3, points: 2}",
    "single": "{training: {steps: 20}}",
    "rab": "{models: 6, training: {epochs: 2}}",
}
SMOOTHED = {
    "procedures": ["gaussian", "macer"],
    "target": 0,  # an easy class, of which such victims certify something
    "training": {"epochs": 2, "learning_rate": 0.01},
    "attack": {"epochs": 2},
    "certify": {"n": 200, "points": 4, "other_points": 2},
}
SMOOTHING = [  # all that a run with SMOOTHED makes of randomized smoothing
    *(f"results/smoothing_{table}.csv" for table in ("cert", "claims")),
    *(f"results/pictures/smoothing_{table}.html" for table in ("cert", "claims")),
    *(f"results/pictures/smoothing/{name}.svg" for name in ("average_radii", "transfer")),
    *(f"results/pictures/smoothing/{kind}.svg" for kind in ("gaussian-s0.25", "gaussian-s0.25-other", "macer-s0.25")),
    *(f"results/digits/smoothing/poison/{name}-e0.1-t0.svg" for name in ("gaussian-s0.25", "macer-s0.25", "random")),
]


@dataclass
class Project:
    """A checkout; `run` calls Snakemake in it."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PYTHONPATH": str(self.folder / "src"), "PATH": path, "COLUMNS": "200"}

    def command(self, *arguments: str, dpa: str | None = TINY, config: tuple[str, ...] = ()) -> list[str]:
        given = {setting.split("=")[0] for setting in config}
        small = {} if dpa is None else {**SMALL, "dpa": dpa}
        settings = [*config, *(f"{key}={value}" for key, value in small.items() if key not in given)]
        return [sys.executable, "-m", "snakemake", *arguments, *(["--config", *settings] if settings else [])]

    def run(
        self, *arguments: str, dpa: str | None = TINY, config: tuple[str, ...] = (), prefix: str = ""
    ) -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments, dpa=dpa, config=config)
        if prefix:
            command = ["bash", "-c", f'{prefix}; exec "$@"', "bash", *command]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=900,
        )

    def planned(self, *targets: str, config: tuple[str, ...] = ()) -> dict[str, list[str]]:
        """What a call would make, by rule: its first outputs below results/."""
        done = self.run("-n", *targets, config=config)
        assert done.returncode == 0, done.stdout
        made: dict[str, list[str]] = {}
        for rule, output in re.findall(
            r"^(?:local)?rule (\w+):\n(?:    .*\n)*?    output: ([^,\s]+)", done.stdout, re.M
        ):
            made.setdefault(rule, []).append(output.removeprefix("results/"))
        return made

    def path(self, name: str) -> Path:
        return self.folder / "results" / name


def checkout(folder: Path) -> Project:
    """The files of the project as they are in the working tree, without results."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if not name.startswith(("tests/", "docs/")) and (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    return Project(folder)


@pytest.fixture
def project(tmp_path) -> Project:
    return checkout(tmp_path / "project")


def made_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, *arguments: str, config: tuple[str, ...] = ()
) -> Project:
    """A finished run that the first worker who needs it makes for all."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = base / f"{name}.done"
        if not done.exists():
            run = checkout(base / name).run("--cores", "2", *arguments, config=config)
            assert run.returncode == 0, run.stdout
            done.touch()
    return Project(base / name)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A finished tiny run; tests must not change it (see `copy`)."""
    return made_once(tmp_path_factory, "finished")


@pytest.fixture(scope="session")
def attacked(tmp_path_factory) -> Project:
    """A finished small run with backdoors, Finite Aggregation, boosting, real attacks and RAB; not to be changed."""
    return made_once(tmp_path_factory, "attacked", config=settings(ATTACKED))


@pytest.fixture(scope="session")
def smoothed(tmp_path_factory) -> Project:
    """A finished small run of randomized smoothing; not to be changed."""
    return made_once(tmp_path_factory, "smoothed", *SMOOTHING, config=smoothing())


def smoothing(**changes) -> tuple[str, ...]:
    """SMOOTHED, changed, as `--config` takes it."""
    return settings({"smoothing": json.dumps({**SMOOTHED, **changes})})


def settings(options: dict[str, str]) -> tuple[str, ...]:
    """Options as `--config` takes them."""
    return tuple(f"{key}={value}" for key, value in options.items())


@pytest.fixture
def copy(finished, tmp_path) -> Project:
    """A finished tiny run of one's own."""
    shutil.copytree(finished.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


@pytest.fixture
def own_data(tmp_path) -> dict[str, np.ndarray]:
    """A small data set of the user's own: 60 training images of 3 classes."""
    random = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = random.integers(0, 80, (60, 8, 8), dtype=np.uint8)
    x[np.arange(60), y * 2] += 120
    return {"x_train": x, "y_train": y, "x_test": x[:20, ::-1].copy(), "y_test": y[:20]}
