"""Bad input: one clear sentence, exit code other than 0, nothing half-written."""

import os
import signal
import subprocess
import time
from itertools import pairwise

import numpy as np
import pytest

from tests.workflow.conftest import checkout

pytestmark = pytest.mark.workflow
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{one}: &{one} [{', '.join([f'*{before}'] * 9)}]\n" for before, one in pairwise("abcdefgh")
)
MINE = ("dataset=mine", "data={source: npz, path: mine.npz}")


@pytest.mark.parametrize(
    ("config", "dpa", "sentence"),
    [
        (("sead=1",), None, "configuration key sead is unknown; did you mean seed?"),
        (("seed=abc",), None, "configuration key seed is 'abc'"),
        ((), "{k: 0}", "configuration key dpa.k.0 is"),
        (
            (),
            "{k: [2], d: [1], training: {epoch: 3}}",
            "configuration key dpa.training.epoch is unknown; did you mean dpa.training.epochs?",
        ),
        (("dataset=imagenet",), None, "imagenet"),
        (("dataset=mine", "data={source: npz, path: nowhere.npz}"), None, "nowhere.npz does not exist"),
    ],
)
def test_bad_configuration_stops_before_any_job(project, config, dpa, sentence):
    done = project.run("--cores", "1", config=config, dpa=dpa)
    assert done.returncode != 0
    assert sentence in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
    assert "rule make_data" not in done.stdout
    assert [path.name for path in project.path("").iterdir()] == ["README.md"]


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A checkout in which runs are only planned."""
    return checkout(tmp_path_factory.mktemp("planned") / "project")


CONFIGURED = {  # what --config is given
    "misspelt block": ("dpaa={k: [5]}", "configuration key dpaa is unknown; did you mean dpa?"),
    "key of a block": ("epochs=5", "configuration key epochs is unknown; did you mean dpa.training.epochs or "),
    "text for a block": ("dpa=5", "configuration key dpa is 5: a block of keys is needed"),
    "nothing": ("seed=", "configuration key seed is null: input should be a valid integer"),
    "not a number": ("confidence=nan", "configuration key confidence is nan: input should be a finite number"),
    "infinite": ("rab={sigma: [.inf]}", "configuration key rab.sigma.0 is '.inf': "),
    "too large": ("attacks=[{seeds: 1000000000}]", "configuration key attacks.0.seeds is '1000000000': "),
    "no such class": ("attacks=[{target: 10}]", "attacks: digits has no class 10; its last is 9"),
    "missing picture": ("attacks=[{trigger: image, path: nowhere.png}]", "attacks.path: nowhere.png does not exist"),
    "missing network": (
        "badnet={nets: [{name: a, path: b.h5, validation: c.h5}]}",
        "badnet.nets.0.path: b.h5 does not exist",
    ),
    "missing module": ("dpa={model: 'nowhere:build'}", "model 'nowhere:build': no module nowhere in"),
    "unclosed": ("dpa={k: [5", "configuration key dpa is '{k: [5': a block of keys is needed"),
}
WRITTEN = {  # what --configfile names
    "misspelt key": (b"dpa:\n  traning:\n    steps: 3\n", "configuration key dpa.traning is unknown; did you mean dpa.training?"),
    "twice": (b"seed: 1\ndevice: cpu\nseed: 2\n", "mine.yaml has the key seed twice in one block, in line 3: join the two."),
    "empty block": (b"dpa:\n", "configuration key dpa is null: a block of keys is needed"),
    "truth": (b"device: no\n", "device is false, where neither true nor false (yes, no) is meant"),
    "repeated aliases": (BOMB.encode(), "mine.yaml is nested too deeply or repeats itself (&, *): write its values out."),
    "object": (b"seed: !!python/object/apply:os.mkdir [ran]\n", "Config file is not valid JSON or YAML"),
    "tabs": (b"dpa:\n\tk: 5\n", "Config file is not valid JSON or YAML"),
    "list": (b"- seed\n", "Config file must be given as JSON or YAML with keys at top level"),
}  # fmt: skip


@pytest.mark.parametrize("case", [*CONFIGURED, *WRITTEN])
def test_a_bad_configuration_is_refused_when_it_is_planned(planned, case):
    if case in CONFIGURED:
        option, sentence = CONFIGURED[case]
        done = planned.run("-n", "results/dpa_cert.csv", config=(option,), dpa=None)
    else:
        content, sentence = WRITTEN[case]
        (planned.folder / "mine.yaml").write_bytes(content)
        done = planned.run("-n", "results/dpa_cert.csv", "--configfile", "mine.yaml", dpa=None)
    assert done.returncode != 0
    assert sentence in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
    assert [path.name for path in planned.path("").iterdir()] == ["README.md"]
    assert not (planned.folder / "ran").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: {**d, "y_train": d["y_train"] * 0, "y_test": d["y_test"] * 0}, "one class"),
        (lambda d: {**d, "y_train": d["y_train"] - 1}, "y_train"),
        (lambda d: {**d, "x_train": d["x_train"] / np.float32(255)}, "uint8"),
        (lambda d: {**d, "x_train": np.where(d["x_train"] > 70, np.nan, 1.0)}, "x_train"),
        (lambda d: {**d, "y_train": d["y_train"][:-1]}, "y_train"),
        (lambda d: {name: d[name] for name in ("x_train", "y_train", "x_test")}, "y_test"),
    ],
)
def test_bad_data_is_named_and_nothing_is_written(project, own_data, change, sentence):
    np.savez(project.folder / "mine.npz", **change(own_data))
    done = project.run("--cores", "1", "results/dpa_cert.csv", config=MINE)
    assert done.returncode != 0
    line = next(line for line in done.stdout.splitlines() if line.startswith("error: "))
    assert sentence in line
    assert "Traceback" not in done.stdout
    assert not list(project.path("").rglob("*.h5*"))


def test_a_truncated_npz_is_named(project, own_data):
    path = project.folder / "mine.npz"
    np.savez(path, **own_data)
    path.write_bytes(path.read_bytes()[:-200])
    done = project.run("--cores", "1", "results/dpa_cert.csv", config=MINE)
    assert done.returncode != 0
    assert "error: mine.npz" in done.stdout


@pytest.mark.parametrize(
    ("artefact", "target"),
    [
        ("models/1-of-2.safetensors", "scores.h5"),
        ("subsets.h5", "models/1-of-2.safetensors"),
        ("scores.h5", "certificates.csv.gz"),
    ],
)
def test_a_corrupt_artefact_is_named(copy, artefact, target):
    family = copy.path("digits/dpa/clean/k4d1")
    path = family / artefact
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for stale in ("scores.h5", "certificates.csv.gz"):
        if stale != artefact:
            (family / stale).unlink(missing_ok=True)
    done = copy.run("--cores", "1", str((family / target).relative_to(copy.folder)))
    assert done.returncode != 0
    assert any(line.startswith("error: ") and artefact in line for line in done.stdout.splitlines()), done.stdout
    assert not (family / "certificates.csv.gz").exists()


def test_a_full_disk_leaves_nothing_half_written(project):
    done = project.run("--cores", "1", "results/dpa_cert.csv", prefix="ulimit -f 40; trap '' XFSZ")
    assert done.returncode != 0
    assert "clean.h5 could not be written" in done.stdout, done.stdout
    assert not list(project.path("").rglob("*.h5*"))


def test_a_second_run_in_the_same_folder_is_refused(project):
    dpa = "{k: [4], d: [1], training: {steps: 3000, strategy: loop}}"
    first = subprocess.Popen(
        project.command("--cores", "1", "results/dpa_cert.csv", dpa=dpa), cwd=project.folder, env=project.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not list((project.folder / ".snakemake").glob("locks/*")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        second = project.run("--cores", "1", "results/dpa_cert.csv", dpa=dpa)
        assert second.returncode != 0
        assert "cannot be locked" in second.stdout
    finally:
        os.killpg(first.pid, signal.SIGKILL)  # SIGTERM can leave Snakemake waiting for ever
        first.wait()
