"""The SLURM profile on a real SLURM."""

import itertools
import re

import numpy as np
import pytest

from tests.cluster.conftest import SLICES, TARGET
from tests.workflow.conftest import ROOT
from tests.workflow.test_runs import arrays, member_hashes

pytestmark = pytest.mark.workflow
FAMILY = "digits/dpa/clean/k6d1"
WITH_CARD = ("train_slice", "score_slice")
WITHOUT_CARD = ("partition_data", "gather_scores", "certify_examples")


def test_every_job_has_a_card_of_its_own(story):
    """As SLURM itself wrote it down: CUDA_VISIBLE_DEVICES, and when it was held."""
    held: dict[str, list[tuple[float, float]]] = {}
    for job in (job for rule in WITH_CARD for job in story.of(rule)):
        lines = [line for line in story.cards if line[0] == job["JobId"]]
        times = {kind: [float(line[2]) for line in lines if line[1] == kind] for kind in ("start", "end")}
        if not times["start"]:
            continue  # cancelled before it began
        (card,) = {line[3] for line in lines if line[1] == "start"}
        held.setdefault(card, []).append((min(times["start"]), max(times["end"])))
    assert held.keys() == {"0", "1"}
    for spans in held.values():
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(sorted(spans)))
    together = [(a, b) for a in held["0"] for b in held["1"] if max(a[0], b[0]) < min(a[1], b[1])]
    assert together  # the cards were used side by side


def test_only_rules_that_use_a_card_are_given_one(story):
    for rule in WITH_CARD:
        assert {(job["Partition"], job["TresPerJob"]) for job in story.of(rule)} == {("gpu", "gres:gpu:1")}
    for rule in WITHOUT_CARD:
        assert {(job["Partition"], job.get("TresPerJob")) for job in story.of(rule)} == {("cpu", None)}
        numbers = {job["JobId"] for job in story.of(rule)}
        assert {line[3] for line in story.cards if line[0] in numbers and line[1] == "start"} == {"none"}


def test_light_rules_are_no_slurm_jobs(story):
    rules = {re.match(r"rule_(\w+?)(_wildcards_|$)", job["Comment"])[1] for job in story.jobs}
    assert rules == {*WITH_CARD, *WITHOUT_CARD}
    assert "localrule make_data" in story.first
    assert "localrule tabulate_certificates" in story.second


def test_slices_are_one_job_array(story):
    tasks = [job for job in story.of("train_slice") if "ArrayJobId" in job]
    assert len({job["ArrayJobId"] for job in tasks}) == 1
    assert {job["ArrayTaskId"] for job in tasks} == {str(number) for number in range(1, SLICES + 1)}


def test_a_killed_slice_and_only_it_is_submitted_again(story):
    jobs = {job["JobId"]: job for job in story.of("train_slice")}
    failed = {number for number, job in jobs.items() if job["JobState"] != "COMPLETED"}
    assert failed == {story.killed}
    assert len(jobs) == SLICES + 1
    assert story.first.count("Trying to restart job") == 1


def test_a_killed_workflow_goes_on(story):
    assert "rule train_slice" not in story.second
    assert "rule gather_scores" in story.second


def test_results_are_those_of_a_run_without_slurm(story, alone):
    assert member_hashes(story.project, FAMILY) == member_hashes(alone, FAMILY)
    for name in ("dpa_cert.csv", "dpa_summary.csv", f"{FAMILY}/certificates.csv.gz", f"{FAMILY}/members.csv"):
        assert story.project.path(name).read_bytes() == alone.path(name).read_bytes(), name
    one, other = (arrays(project.path(f"{FAMILY}/scores.h5")) for project in (story.project, alone))
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_logs_are_where_the_documentation_says(story):
    page = (ROOT / "docs" / "cluster.md").read_text()
    killed = next(job for job in story.of("train_slice") if job["JobId"] == story.killed)
    places = {
        f"results/logs/{FAMILY}/train_slice/1-of-{SLICES}.log": "results/logs/{dataset}/dpa/clean/k{k}d{d}/train_slice/{slice}.log",
        f"results/logs/slurm/rule_train_slice/{killed['ArrayJobId']}_{killed['ArrayTaskId']}.log": "results/logs/slurm/rule_{rule}/{array}_{task}.log",
    }
    for place, documented in places.items():
        assert documented in page
        assert (story.project.folder / place).stat().st_size > 0


def test_a_command_that_loses_the_profiles_device_is_refused(cluster, on_cluster):
    done = on_cluster.run(TARGET, "--workflow-profile", "profiles/slurm")
    assert done.returncode != 0
    assert "add device=cuda" in done.stdout
    assert "submitted" not in done.stdout.lower()


def test_at_the_papers_scale_each_rule_asks_for_what_it_needs(cluster, on_cluster):
    profile = ("--workflow-profile", "profiles/slurm", "--configfile", "config/cifar10.yaml")
    done = on_cluster.run("-n", TARGET, "results/smoothing_cert.csv", *profile, dpa=None)
    assert done.returncode == 0, done.stdout
    blocks = re.findall(r"^rule (\w+):\n(?:    .*\n)*?    resources: (.*)", done.stdout, re.M)
    assert {rule for rule, _ in blocks} >= {"train_slice", "gather_scores", "make_poison", "certify_victims"}
    for rule, resources in blocks:
        asked = dict(pair.split("=") for pair in resources.split(", ") if "=" in pair)
        assert asked["slurm_partition"] == ("gpu" if asked.get("gpu") == "1" else "cpu"), rule
    assert "train_slice/16-of-16" in done.stdout
