"""Findings of a run, their record, and that a recorded command makes the same again."""

import json
import shlex

import pandas as pd
import pytest

pytestmark = pytest.mark.workflow


def repeated(project, run) -> str:
    """What Snakemake says to the command of a part."""
    words = shlex.split(run["command"])
    assert words[:3] == ["snakemake", "--cores", "2"]
    done = project.run("-n", *words[3:], dpa=None)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_run_is_recorded_and_its_commands_find_nothing_to_do(copy):
    done = copy.run("record", "--cores", "2")
    assert done.returncode == 0, done.stdout
    assert "recorded in docs/results/digits" in done.stdout
    folder = copy.folder / "docs/results/digits"
    kept = {path.name for path in folder.iterdir()}
    tables = {"dpa_cert.csv", "dpa_summary.csv", "rab_cert.csv"}
    assert kept == {*tables, "findings.csv", "run.json", "README.md", "dpa_certified_accuracy.svg"}
    for name in ("findings.csv", *tables):
        assert (folder / name).read_bytes() == copy.path(name).read_bytes()
    found = pd.read_csv(folder / "findings.csv")
    assert set(found["part"]) == {"dpa", "rab"}
    assert not found["id"].str.startswith("dpa-").any()  # nothing is published for digits
    parts = json.loads((folder / "run.json").read_text())["parts"]
    assert list(parts) == ["dpa", "rab"]
    for run in parts.values():
        assert run["hardware"].startswith("cpu ")
        assert run["seconds"] > 0
        assert "Nothing to be done" in repeated(copy, run)
    assert parts["dpa"]["changed"]["dpa"]["k"] == [4]
    summary = pd.read_csv(folder / "dpa_summary.csv").iloc[0]
    assert "## Not run in the published setting" in (folder.parent / "README.md").read_text()
    text = (folder / "README.md").read_text()
    assert f"{parts['dpa']['seconds']:.0f} seconds in {parts['dpa']['jobs']} jobs" in text
    assert summary["dataset"] == parts["dpa"]["dataset"] == "digits"


def test_no_real_attack_beats_a_certificate_and_the_finding_says_so(attacked):
    found = pd.read_csv(attacked.path("findings.csv"))
    assert set(found["part"]) == {"dpa", "backdoor", "rab"}
    matrix = pd.read_csv(attacked.path("backdoor_matrix.csv")).query("poisoned_images > 0 and defence != 'single'")
    spare = (matrix["triggered_accuracy"] - matrix["certified_triggered"]).min()
    row = found.set_index("id").loc["dpa-theorem"]
    assert row["verdict"] == "holds"
    assert 0 <= row["ours"] <= spare
    single = pd.read_csv(attacked.path("backdoor_matrix.csv")).query("defence == 'single' and poisoned_images == 3")
    dpa = matrix.query("defence == 'dpa' and poisoned_images == 3 and seeds == 1")
    lowered = found[(found["id"] == "dpa-lowers-asr") & found["setting"].str.contains("3 poisoned images")]
    assert lowered["ours"].tolist() == pytest.approx((single["asr"].item() - dpa["asr"]).tolist())
    for part in ("dpa", "backdoor", "rab"):
        assert "Nothing to be done" in repeated(attacked, json.loads(attacked.path(f"runs/{part}.json").read_text()))
