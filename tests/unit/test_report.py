"""What the report says of the run as a whole: which jobs count, what they cost and ran on, what differs, what was found."""

import base64
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mithridate.artefacts import write_hdf5, write_safetensors
from mithridate.data.dataset import Header
from mithridate.errors import InputError
from mithridate.findings.record import load_records
from mithridate.findings.verdicts import FAILS, HOLDS, OTHER
from mithridate.options.root import Options, parse
from mithridate.pictures.times import SHOWN, times
from mithridate.report import configuration, findings, front, lineage, origins
from mithridate.report.times import by_rule
from tests.unit.making import words_apart

RECORDS = Path(__file__).parents[2] / "docs" / "results"
LONG = "results/" + "very_" * 60 + "long.csv"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of five jobs in Snakemake's records; a sixth has nothing to do with the table."""
    monkeypatch.chdir(tmp_path)
    measured = "s\th:m:s\tmax_rss\n{}\t0:00:01\t{}\n"
    for rule, output, inputs, cost in (
        ("make_data", "results/d/clean.h5", ["mine.npz"], (1.5, 100)),
        ("train", "results/d/1.safetensors", ["results/d/clean.h5"], (4.0, 300)),
        ("train", "results/d/2.safetensors", ["results/d/clean.h5"], (8.0, "NA")),
        ("join", LONG, ["results/d/1.safetensors", "results/d/2.safetensors"], None),
        ("tabulate", "results/t.csv", [LONG], (0.5, 50)),
        ("other", "results/other.csv", ["results/d/clean.h5"], (99.0, 999)),
    ):
        name = Path(output).stem[:20]
        log = f"results/logs/{rule}/{name}.log"
        _record(output, {"rule": rule, "log": [log], "input": inputs})
        if cost:
            path = Path(f"results/benchmarks/{rule}/{name}.tsv")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(measured.format(*cost))
    made = {"commit": "a" * 40, "torch": "2.13.0", "seconds": 3}
    write_hdf5("results/d/clean.h5", {"x": np.zeros(1)}, {}, made)
    gpu = {**made, "device": "NVIDIA H100", "peak_gpu_bytes": 3 * 2**20}
    write_safetensors("results/d/1.safetensors", {"w": np.zeros(1)}, {}, {**gpu, "commit": "b" * 40})
    return lineage.jobs(["results/t.csv"])


def _record(output: str, record: dict) -> None:
    """As Snakemake keeps it: names too long for a file are cut into folders."""
    longest = os.pathconf(".", "PC_NAME_MAX") - 1
    name = base64.urlsafe_b64encode(output.encode()).decode()
    parts = [name[start : start + longest] for start in range(0, len(name), longest)]
    path = lineage.RECORDS.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def test_the_jobs_are_those_behind_the_table(run):
    assert [job.rule for job in run] == ["join", "make_data", "tabulate", "train", "train"]
    assert lineage.jobs(["results/nothing.csv"]) == []


def test_times_by_rule_say_what_was_not_measured(run):
    table = by_rule(run).set_index("rule")
    assert list(table.index) == ["train", "make_data", "tabulate", "join"]
    train = table.loc["train"]
    assert train[["jobs", "measured", "seconds_total", "seconds_median", "seconds_longest"]].tolist() == [
        2,
        2,
        12,
        6,
        8,
    ]
    assert train["peak_memory_mib"] == 300
    assert train["peak_gpu_memory_mib"] == 3
    join = table.loc["join"]
    assert join[["jobs", "measured"]].tolist() == [1, 0]
    assert np.isnan(join["seconds_total"])
    assert "other" not in table.index


def test_without_a_gpu_its_memory_is_no_column(run):
    assert "peak_gpu_memory_mib" not in by_rule([job for job in run if job.rule != "train"])


def test_a_deleted_measurement_is_missing_and_no_error(run):
    next(job for job in run if job.rule == "tabulate").benchmark.unlink()
    assert by_rule(run).set_index("rule").loc["tabulate", "measured"] == 0


def test_copied_results_without_records_have_no_cost_and_no_error(run):
    assert "is not known" in front.run_text([], configuration.table(Options()), origins.gathered([]), by_rule([]), "x")


def test_damage_is_named(run):
    Path("results/d/1.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"^results/d/1\.safetensors is no whole artefact"):
        origins.gathered(run)
    measured = [job for job in run if job.rule == "make_data"]
    measured[0].benchmark.write_text("s\tmax_rss\n")
    with pytest.raises(InputError, match=r"is no whole benchmark"):
        by_rule(measured)
    next(path for path in lineage.RECORDS.rglob("*") if path.is_file()).write_text("{")
    with pytest.raises(InputError, match=r"^\.snakemake/metadata/.* is damaged: delete .* and make it anew"):
        [lineage.jobs([name]) for name in ("results/t.csv", "results/other.csv")]


def test_the_picture_of_times_names_what_is_missing(run):
    table = by_rule(run)
    figure, caption = times(table)
    figure.canvas.draw()
    axes = figure.axes[0]
    words_apart(figure, axes.get_yticklabels())
    assert [label.get_text() for label in axes.get_yticklabels()][::-1] == [
        "train (2)",
        "make_data (1)",
        "tabulate (1)",
    ]
    assert "1 jobs have no measurement (join)." in caption
    assert "14 seconds" in caption


def test_the_picture_of_times_is_of_the_longest():
    table = pd.DataFrame({"rule": [f"rule_{i}" for i in range(40)], "jobs": 1, "measured": 1})
    for name in ("seconds_total", "seconds_median", "seconds_longest", "peak_memory_mib"):
        table[name] = np.arange(40, 0, -1.0)
    figure, caption = times(table)
    assert len(figure.axes[0].get_yticklabels()) == SHOWN
    assert f"The {SHOWN} rules that take longest, of 40" in caption
    assert "Every job was measured." in caption


def test_origins_count_artefacts_and_leave_out_what_is_of_one_job(run):
    table = origins.gathered(run)
    rows = {(row.item, row.value): row.artefacts for row in table.itertuples()}
    assert rows == {
        ("commit", "a" * 40): 1,
        ("commit", "b" * 40): 1,
        ("device", "NVIDIA H100"): 1,
        ("torch", "2.13.0"): 2,
    }
    assert origins.gathered([]).empty


def test_changed_keys_come_first_and_every_key_is_there():
    usual = configuration.table(Options())
    assert (usual["state"] == "default").all()
    changed = configuration.table(parse({"seed": 3, "dpa": {"k": [10]}, "attacks": []}))
    head = changed[changed["state"] == "changed"].set_index("key")
    assert len(head) == 3
    assert changed["key"].head(2).tolist() == ["seed", "dpa.k"]
    assert head.loc["dpa.k", ["value", "default"]].tolist() == ["[10]", "[50]"]
    assert not any(key.startswith("attacks[") for key in changed["key"])  # one change, not one for each key within
    assert tuple(head.loc["attacks", ["value", "default"]]) == ("[]", "1 block")
    more = configuration.table(parse({"attacks": [{}, {"delta": 0.1}]})).set_index("key")
    assert tuple(more.loc["attacks[1].delta", ["value", "default"]]) == ("0.1", configuration.NOWHERE)
    assert set(changed["key"]) - set(usual["key"]) == {"attacks"}


def test_the_first_page_says_what_was_run(run):
    options = parse({"seed": 3, "device": "cpu", "confidence": 0.9})
    header = Header("mine", "mine.npz", "", 1.0, ["a", "b"], "", (3, 8, 9), 1234, 56)
    text = front.run_text([header], configuration.table(options), origins.gathered(run), by_rule(run), "8 This run")
    assert (
        "Data set **mine** (mine.npz): 1,234 training and 56 test images of 8 × 9 pixels, in colour, 2 classes." in text
    )
    assert "``seed``: ``3``; ``device``: ``cpu``; ``confidence``: ``0.9``." in text
    assert f"commit {'a' * 12}, {'b' * 12}, on NVIDIA H100" in text
    assert "5 jobs are behind the tables, of which 4 were measured: 0.2 minutes" in text
    assert "every key has its default" in front.run_text(
        [], configuration.table(Options()), origins.gathered([]), by_rule(run), "x"
    )


@pytest.mark.parametrize("name", sorted(load_records(RECORDS)))
def test_recorded_runs_in_sentences(name):
    """That every recorded run can be put in words, with its own numbers and verdicts."""
    runs, table, _ = load_records(RECORDS)[name]
    tables = {
        name_: pd.read_csv(RECORDS / name / f"{name_}.csv", keep_default_na=False, na_values=[""])
        for run in runs
        for name_ in run["tables"]
    }
    parts = [run["part"] for run in runs]
    text = findings.first_page(table, tables, parts)
    assert text.count("* **") == len(parts)
    assert "nan" not in text
    against = table["verdict"].isin([FAILS, "higher", "lower"]).sum()
    assert (f"{against} findings differ" in text) == bool(against)
    shown = findings.sortable(table)
    assert len(shown) == len(table)
    assert shown["verdict"].tolist() == table["verdict"].tolist()
    share = table["unit"] == "share"
    np.testing.assert_allclose(shown.loc[share, "ours"], 100 * table.loc[share, "ours"], atol=0.0051)


def test_verdicts_are_counted_by_part():
    rows = [("dpa", HOLDS), ("dpa", HOLDS), ("dpa", OTHER), ("rab", FAILS)]
    table = pd.DataFrame(rows, columns=["part", "verdict"])
    assert (
        findings._cells(table, "dpa")
        == '<td class="good">2</td><td class=""></td><td class="open">1</td><td class=""></td>'
    )
    assert findings._cells(table, "rab").endswith('<td class="bad">1</td>')
