"""One small run of the workflow on a SLURM of one node, with what a cluster does to it: a slice is killed, and Snakemake."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import slurm
from tests.workflow.conftest import Project, checkout

VARIABLE = "MITHRIDATE_CLUSTER"
PLUGIN = "snakemake_executor_plugin_slurm"
DPA = "{k: [6], d: [1], methods: [dpa, runoff], training: {steps: 4, batch_size: 8, strategy: loop}}"
SLICES = 3
TARGET = "results/dpa_cert.csv"


def pytest_runtest_setup(item):
    if not os.environ.get(VARIABLE):
        pytest.skip(f"needs root and SLURM, and takes minutes: make cluster ({VARIABLE}=1)")


@dataclass
class Story:
    """What happened, and what SLURM wrote down of it."""

    project: Project
    killed: str  # SLURM's number of the job whose trainer was killed
    first: str  # what Snakemake printed until it was killed itself
    second: str  # and when it went on
    jobs: list[dict[str, str]]  # as scontrol shows them
    cards: list[list[str]]  # job, start or end, seconds, CUDA_VISIBLE_DEVICES

    def of(self, rule: str) -> list[dict[str, str]]:
        return [job for job in self.jobs if re.match(rf"rule_{rule}(_wildcards_|$)", job["Comment"])]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A running SLURM; the folder of its files."""
    absent = "" if importlib.util.find_spec(PLUGIN) else f"{PLUGIN} not found: pip install -e '.[slurm]'"
    if reason := absent or slurm.missing():
        pytest.fail(f"{VARIABLE} is set, but {reason}", pytrace=False)
    folder = tmp_path_factory.mktemp("slurm")
    with slurm.cluster(folder):
        yield folder


@pytest.fixture(scope="session")
def on_cluster(tmp_path_factory) -> Project:
    """A checkout whose jobs ask for a card where they would with `device: cuda`, and compute without one."""
    made = checkout(tmp_path_factory.mktemp("cluster") / "project")
    rules = made.folder / "workflow" / "rules" / "common.smk"
    honest = 'return int(DEVICE == "cuda")'
    assert honest in rules.read_text()
    rules.write_text(rules.read_text().replace(honest, "return 1"))
    return made


@pytest.fixture(scope="session")
def alone(tmp_path_factory) -> Project:
    """The same run without SLURM."""
    made = checkout(tmp_path_factory.mktemp("alone") / "project")
    done = made.run(TARGET, "--cores", "2", dpa=DPA)
    assert done.returncode == 0, done.stdout
    return made


@pytest.fixture(scope="session")
def story(cluster, on_cluster) -> Story:
    """A trainer is killed; when all slices are trained nevertheless, Snakemake is; a second call does what is left."""
    with started(on_cluster, cluster / "first.txt") as (_, said):
        killed = slurm.wait_for(lambda: said() and kill_trainer(on_cluster.folder), "a trainer", 120)
        trained = r"Finished jobid: \d+ \(Rule: train_slice\)"
        slurm.wait_for(lambda: len(re.findall(trained, said())) == SLICES, "all slices", 240)
    first = (cluster / "first.txt").read_text()
    slurm.said("scancel", "--name", re.search(r"SLURM run ID: (\S+)", first)[1])
    slurm.wait_for(lambda: not slurm.said("squeue", "--noheader"), "an empty queue")

    assert on_cluster.run("--unlock", dpa=DPA).returncode == 0
    with started(on_cluster, cluster / "second.txt") as (running, said):
        slurm.wait_for(lambda: said() and running.poll() == 0, "the table", 240)
    shown = slurm.said("scontrol", "--oneliner", "show", "job").splitlines()
    jobs = [dict(re.findall(r"(\w+)=(\S+)", line)) for line in shown]
    cards = [line.split() for line in (cluster / "cards").read_text().splitlines()]
    return Story(on_cluster, killed, first, (cluster / "second.txt").read_text(), jobs, cards)


@contextmanager
def started(project: Project, output: Path):
    """The run on the cluster, killed at the end of the block, and what it printed so far, which fails when it does."""
    profile = ("--workflow-profile", "profiles/slurm", "--set-scatter", f"slices={SLICES}")
    command = project.command(TARGET, *profile, config=("device=cpu",), dpa=DPA)
    running = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("impatient.py")), *command[3:]],
        cwd=project.folder, env=project.environment,
        stdout=output.open("w"), stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip

    def said() -> str:
        assert not running.poll(), output.read_text()
        return output.read_text()

    try:
        yield running, said
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def kill_trainer(folder: Path) -> str:
    """Kill the trainer of the job array's first task, as a node does that has no memory left; its SLURM job's number."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_text().split("\0")
            environment = dict(line.partition("=")[::2] for line in (process / "environ").read_text().split("\0"))
            trains = len(arguments) > 1 and arguments[1].endswith("train_slice.py")
            if trains and (process / "cwd").resolve() == folder and environment.get("SLURM_ARRAY_TASK_ID") == "1":
                os.kill(int(process.name), signal.SIGKILL)
                return environment["SLURM_JOB_ID"]
        except OSError:
            continue
    return ""
