"""The workflow as its users call it: determinism, resumption, reruns."""

import os
import shutil
import signal
import subprocess
import time

import h5py
import numpy as np
import pandas as pd
import pytest

from mithridate.training.family import weight_hash
from mithridate.training.slices import read_slice

pytestmark = pytest.mark.workflow
FAMILY = "digits/dpa/clean/k4d1"
SLOW = "{k: [6], d: [1], training: {steps: 400, batch_size: 16, strategy: loop}}"


def arrays(path) -> dict[str, np.ndarray]:
    """Every data set of an HDF5 file; provenance is attributes of a group and stays out."""
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def member_hashes(project, family=FAMILY) -> dict[int, str]:
    return {
        int(number): weight_hash(members.member(position))
        for path in project.path(f"{family}/models").glob("*.safetensors")
        for members in [read_slice(path)[0]]
        for position, number in enumerate(members.subset_ids)
    }


def test_everything_is_made_and_a_second_call_runs_nothing(finished):
    for name in ("dpa_cert.csv", "dpa_summary.csv", "pictures/certified_accuracy.svg", f"{FAMILY}/scores.h5"):
        assert finished.path(name).stat().st_size > 0
    again = finished.run("--cores", "2")
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout
    assert not list(finished.path("").rglob("*.part"))


def test_slices_and_cores_change_nothing(finished, project):
    done = project.run("--cores", "1", "--set-scatter", "slices=4")
    assert done.returncode == 0, done.stdout
    assert member_hashes(project) == member_hashes(finished)
    for name in (f"{FAMILY}/subsets.h5", f"{FAMILY}/scores.h5", "digits/data/clean.h5"):
        one, other = arrays(finished.path(name)), arrays(project.path(name))
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=f"{name}: {key}")
    for name in (
        "dpa_cert.csv",
        "dpa_summary.csv",
        f"{FAMILY}/certificates.csv.gz",
        "pictures/certified_accuracy.svg",
    ):
        assert finished.path(name).read_bytes() == project.path(name).read_bytes(), name


def test_the_order_of_the_training_file_changes_nothing(project, own_data, tmp_path):
    settings = ("dataset=mine", "data={source: npz, path: mine.npz}")
    np.savez(project.folder / "mine.npz", **own_data)
    assert project.run("--cores", "2", "results/dpa_cert.csv", config=settings).returncode == 0
    before = member_hashes(project, "mine/dpa/clean/k4d1"), project.path("dpa_cert.csv").read_bytes()
    order = np.random.default_rng(1).permutation(60)
    shuffled = {**own_data, "x_train": own_data["x_train"][order], "y_train": own_data["y_train"][order]}
    np.savez(project.folder / "mine.npz", **shuffled)
    again = project.run("--cores", "2", "results/dpa_cert.csv", config=settings)
    assert again.returncode == 0, again.stdout
    assert "rule make_data" in again.stdout  # the changed file was seen
    assert (
        member_hashes(project, "mine/dpa/clean/k4d1"),
        project.path("dpa_cert.csv").read_bytes(),
    ) == before


def test_killed_in_mid_training_it_goes_on_with_identical_weights(project, tmp_path):
    target = f"results/{FAMILY.replace('k4', 'k6')}/models/1-of-1.safetensors"
    arguments = (target, "--cores", "1", "--set-scatter", "slices=1")
    running = subprocess.Popen(
        project.command(*arguments, dpa=SLOW), cwd=project.folder, env=project.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    checkpoints = project.path("checkpoints")
    deadline = time.monotonic() + 120
    while len(list(checkpoints.rglob("*.safetensors"))) < 2:
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    finished_before = {path: path.stat().st_mtime_ns for path in checkpoints.rglob("*.safetensors")}
    assert len(finished_before) < 6
    assert not (project.folder / target).exists()

    locked = project.run(*arguments, dpa=SLOW)
    assert locked.returncode != 0
    assert "--unlock" in locked.stdout
    assert project.run("--unlock", dpa=SLOW).returncode == 0
    again = project.run(*arguments, dpa=SLOW)
    assert again.returncode == 0, again.stdout
    assert f"({len(finished_before)} without work" in again.stdout
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in finished_before.items())
    resumed = member_hashes(project, "digits/dpa/clean/k6d1")

    for path in [*checkpoints.rglob("*.safetensors"), project.folder / target]:
        path.unlink()
    assert project.run(*arguments, dpa=SLOW).returncode == 0
    assert member_hashes(project, "digits/dpa/clean/k6d1") == resumed


@pytest.mark.parametrize(
    ("file", "reruns", "rests"),
    [
        ("certify/runoff.py", {"certify_examples", "tabulate_certificates"}, {"make_data", "partition_data", "train_slice", "gather_scores"}),
        ("training/tile.py", {"train_slice", "score_slice", "gather_scores"}, {"make_data", "partition_data"}),
        ("models/small_cnn.py", {"train_slice"}, {"make_data", "partition_data"}),
        ("data/digits.py", {"make_data", "partition_data", "train_slice"}, set()),
        ("pictures/dpa.py", {"plot_family", "plot_certified_accuracy"}, {"train_slice", "certify_examples", "tabulate_certificates"}),
        ("options/data.py", {"make_data"}, set()),
        ("cli.py", set(), {"make_data", "train_slice", "certify_examples", "plot_family"}),
    ],
)  # fmt: skip
def test_editing_the_library_reruns_exactly_what_depends_on_it(copy, file, reruns, rests):
    path = copy.folder / "src" / "mithridate" / file
    path.write_text(path.read_text() + "\nEDITED = True\n")
    planned = copy.run("-n").stdout
    rules = {line.split()[1].rstrip(":") for line in planned.splitlines() if line.startswith(("rule ", "localrule "))}
    assert reruns <= rules, planned
    assert not rests & rules, planned


def test_a_changed_option_reruns_only_what_depends_on_it(copy):
    planned = copy.run("-n", config=("confidence=0.9",)).stdout
    assert "rule tabulate_certificates" in planned
    assert "rule train_slice" not in planned
    assert "rule certify_examples" not in planned
    assert "rule train_slice" in copy.run("-n", config=("seed=1",)).stdout


def test_one_partition_is_the_single_classifier_with_radius_zero(project):
    dpa = "{k: [1], d: [1], training: {steps: 20, strategy: loop}}"
    done = project.run("--cores", "1", "results/dpa_cert.csv", dpa=dpa)
    assert done.returncode == 0, done.stdout
    table = pd.read_csv(project.path("dpa_cert.csv"))
    assert (table.loc[table["radius"] > 0, "certified_accuracy"] == 0).all()
    summary = pd.read_csv(project.path("dpa_summary.csv"))
    np.testing.assert_allclose(summary["base_accuracy"], summary["clean_accuracy"])


def test_more_partitions_than_samples_is_sound_and_says_so(project, own_data):
    np.savez(project.folder / "mine.npz", **own_data)
    settings = ("dataset=mine", "data={source: npz, path: mine.npz}")
    dpa = "{k: [90], d: [1], training: {steps: 2, strategy: loop}}"
    done = project.run("--cores", "2", "results/dpa_cert.csv", config=settings, dpa=dpa)
    assert done.returncode == 0, done.stdout
    assert "partitions are empty" in done.stdout
    members = pd.read_csv(project.path("mine/dpa/clean/k90d1/members.csv"))
    assert ((members["size"] == 0) == (members["flag"] == "empty")).all()
    with h5py.File(project.path("mine/dpa/clean/k90d1/scores.h5")) as file:
        empty = members.loc[members["flag"] == "empty", "subset"]
        assert not file["scores"][:, empty.to_numpy()].any()  # constant: votes class 0


@pytest.mark.parametrize("overlay", ["mnist", "cifar10", "mnist_reduced", "finite"])
def test_paper_configurations_can_be_planned(project, overlay):
    planned = project.run("-n", "results/dpa_cert.csv", "--configfile", f"config/{overlay}.yaml", dpa=None)
    assert planned.returncode == 0, planned.stdout
    assert "train_slice" in planned.stdout


def test_the_report_carries_this_runs_numbers(copy):
    done = copy.run("--report", "results/report.html")
    assert done.returncode == 0, done.stdout
    page = copy.path("report.html").read_text()
    summary = pd.read_csv(copy.path("dpa_summary.csv"))
    accuracy = summary.loc[summary["method"] == "dpa", "clean_accuracy"].iloc[0]
    assert f"clean accuracy {accuracy:.1%}" in page
    assert "base classifiers:" in page
    assert "Partition aggregation" in page


def test_the_account_of_a_run_is_of_its_own_jobs_and_asks_for_none(copy):
    times = pd.read_csv(copy.path("run/times.csv")).set_index("rule")
    assert times.loc["train_slice", ["jobs", "measured"]].tolist() == [2, 2]
    assert (times["seconds_total"] > 0).sum() > 5
    origins = pd.read_csv(copy.path("run/origins.csv"))
    assert set(origins["item"]) >= {"commit", "device", "torch"}
    copy.path("benchmarks/tabulate_certificates.tsv").unlink()
    shutil.copytree(copy.path("benchmarks/digits"), copy.path("benchmarks/mnist"))
    assert copy.planned() == {}
    done = copy.run("--cores", "2", "--forcerun", "describe_run", "results/run/times.csv")
    assert done.returncode == 0, done.stdout
    again = pd.read_csv(copy.path("run/times.csv")).set_index("rule")
    assert again.loc["tabulate_certificates", ["jobs", "measured"]].tolist() == [1, 0]
    assert again["jobs"].sum() == times["jobs"].sum()


def test_a_report_beside_another_run_names_what_is_missing(project):
    done = project.run("-n", config=("report={beside: {other: nowhere}}",))
    assert done.returncode != 0
    assert "report.beside: nowhere holds no final table; give the folder of results of a finished run." in done.stdout
    done = project.run("-n", config=("report={beside: {digits: nowhere}}",))
    assert done.returncode != 0
    assert "this run itself is called digits" in done.stdout
