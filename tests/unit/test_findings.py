"""Published numbers beside ours: what is compared, what is said of it, and that docs/results says nothing else."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mithridate.artefacts import write_csv, write_hdf5, write_safetensors
from mithridate.atomic import write_bytes
from mithridate.certify.intervals import clopper_pearson
from mithridate.errors import InputError
from mithridate.findings import configuration
from mithridate.findings.compare import findings
from mithridate.findings.measured import Rate, difference
from mithridate.findings.parts import TABLES
from mithridate.findings.published import published
from mithridate.findings.record import again, load_records, record
from mithridate.findings.runs import describe
from mithridate.findings.settings import differs, papers
from mithridate.findings.verdicts import verdict
from mithridate.options.reading import check, merge
from mithridate.options.root import Options, parse
from mithridate.provenance import gather

ROOT = Path(__file__).parents[2]
PAPERS = papers(ROOT / "config")
ABOUT = {"hardware": "cpu", "seconds": 1.0, "command": "snakemake"}


def dpa(dataset="cifar10", k=50, clean=0.70, base=0.56, n=10_000, changes=None) -> pd.DataFrame:
    """The findings of a run of the paper's setting, but for `changes`."""
    options = check([ROOT / f"config/{dataset}.yaml"]).model_dump(mode="json")
    options["dpa"] |= changes or {}
    low, high = clopper_pearson(round(clean * n), n, 0.95)
    accuracy = {"clean_accuracy": clean, "ci_low": low, "ci_high": high, "base_accuracy": base, "n_test": n}
    row = {"dataset": dataset, "k": k, "d": 1, "seeds": 1, "method": "dpa", "median_printed": 2, **accuracy}
    radii = pd.DataFrame({"radius": [0, 1, 2], "certified_accuracy": [clean, 0.5, 0.1]})
    radii["ci_low"], radii["ci_high"] = clopper_pearson((radii["certified_accuracy"] * n).to_numpy(), np.array(n), 0.95)
    named = {"variant": "clean", "inputs": "clean", "certificate_kind": "pointwise", **row}
    cert = radii.assign(**{key: named[key] for key in named if key not in radii})
    run = {"part": "dpa", **ABOUT, "configuration": configuration.of_part("dpa", parse(options))}
    return findings({"dpa_summary": pd.DataFrame([row]), "dpa_cert": cert}, [run], PAPERS).set_index("id")


# The published rows ---------------------------------------------------------------------------------------------------


def test_published_rows_are_whole():
    rows = published()
    assert rows["id"].is_unique
    assert set(rows["part"]) == set(TABLES)
    assert set(rows["relation"]) == {"=", ">", ">=", "<="}
    assert rows["value"].astype(float).notna().all()
    assert (rows[["quantity", "unit", "source", "place"]] != "").all(axis=None)
    numbers = rows[rows["relation"] == "="]
    assert (numbers["run"] != "").all(), "every published number can be asked for"


@pytest.mark.parametrize("dataset", sorted(PAPERS))
def test_what_a_row_needs_is_an_option_of_the_papers(dataset):
    rows = published().query("dataset == @dataset and needs != ''")
    assert len(rows) > 10
    for needs in rows["needs"]:
        assert differs(PAPERS[dataset], PAPERS, needs) == []
        for path in needs.split():  # another value at each path is seen
            other = json.loads(json.dumps(PAPERS[dataset]))
            block, keys = other, path.split(".")
            for key in keys[:-1]:
                block = block[key]
            if isinstance(block, list):
                next(one for one in block if one["custom_loss"] == keys[-1])["num_epochs"] = 1
            else:
                block[keys[-1]] = 7
            assert differs(other, PAPERS, needs)


# Verdicts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        ("0.70", 0.69, 0.71, "agrees"),
        ("0.70", 0.704, 0.72, "agrees"),  # 0.70 may be 0.7049
        ("0.7000", 0.704, 0.72, "lower or higher"),
        ("0.70", 0.60, 0.68, "lower"),
        ("9", 9, 10, "agrees"),
    ],
)
def test_a_number_agrees_where_its_digits_reach_our_interval(value, low, high, said):
    ours = (low + high) / 2
    expected = {"lower or higher": "higher"}.get(said, said)
    assert verdict("=", value, ours, low, high, same=True) == expected
    assert verdict("=", value, ours, low, high, same=False) == "not comparable"


def test_a_printed_range_is_met_by_any_overlap():
    said = [verdict("=", "0.03", at, at, at, published_high="0.04", same=True) for at in (0.01, 0.035, 0.06)]
    assert said == ["lower", "agrees", "higher"]


SHARE = st.floats(-1, 1, allow_subnormal=False)


@given(st.sampled_from([">", ">=", "<="]), SHARE, st.floats(0, 0.5, allow_subnormal=False), SHARE)
def test_a_claim_holds_for_all_of_the_interval_or_fails_for_all(relation, low, width, threshold):
    high = low + width
    holds = {">": np.greater, ">=": np.greater_equal, "<=": np.less_equal}[relation]
    ends = {bool(holds(end, threshold)) for end in (low, high)}
    said = verdict(relation, repr(threshold), low, low, high, same=False)
    assert said == ("undecided" if len(ends) == 2 else "holds" if ends == {True} else "does not hold")
    assert verdict(relation, repr(threshold), low, low, high, same=True, decidable=False) == "undecided"


def test_a_difference_of_shares_is_as_sure_as_its_parts_together():
    ours, low, high = difference(Rate(0.9, 100), [Rate(0.5, 100), Rate(0.7, 100)], 0.95)
    first, second, third = (Rate(share, 100).bounds(1 - 0.05 / 3) for share in (0.9, 0.5, 0.7))
    assert (ours, low, high) == (pytest.approx(0.2), first[0] - third[1], first[1] - max(second[0], third[0]))
    misses, random = 0, np.random.default_rng(0)
    for _ in range(400):  # whatever the dependence: here both are right on the same images
        right = random.random(60)
        _, low, high = difference(Rate((right < 0.8).mean(), 60), [Rate((right < 0.6).mean(), 60)], 0.9)
        misses += not low <= 0.2 <= high
    assert misses <= 0.1 * 400


# Comparison -----------------------------------------------------------------------------------------------------------


def test_in_the_papers_setting_numbers_are_judged():
    table = dpa(clean=0.7010, base=0.60)
    clean = table.loc["dpa-cifar10-k50-clean"]
    assert (clean["verdict"], clean["differs"], clean["published"]) == ("agrees", "", "0.7013")
    assert clean["difference"] == pytest.approx(0.7010 - 0.7013)
    assert table.loc["dpa-cifar10-k50-base", "verdict"] == "higher"
    assert table.loc["dpa-cifar10-k50-median", "verdict"] == "lower"  # 2 or fewer of 9
    assert {"dpa-cifar10-k50-clean-camera-ready", "dpa-cifar10-k50-base-camera-ready"} <= set(table.index)
    assert not any("k250" in row for row in table.index)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model": "small_cnn"}, "dpa.model is small_cnn instead of nin"),
        ({"hash": "content"}, "dpa.hash is content instead of pixel_sum"),
        (
            {"training": {**PAPERS["cifar10"]["dpa"]["training"], "epochs": 20}},
            "dpa.training.epochs is 20 instead of 200",
        ),
    ],
)
def test_another_setting_is_named_and_not_compared(changes, why):
    row = dpa(changes=changes).loc["dpa-cifar10-k50-clean"]
    assert (row["verdict"], row["differs"]) == ("not comparable", why)


def test_an_option_that_is_newer_than_a_record_makes_no_difference():
    training = {key: value for key, value in PAPERS["cifar10"]["dpa"]["training"].items() if key != "optimiser"}
    config = {**PAPERS["cifar10"], "dpa": {**PAPERS["cifar10"]["dpa"], "training": training}}
    assert differs(config, PAPERS, "dpa.training") == []


def test_a_run_that_answers_nothing_has_no_findings():
    options = configuration.of_part("badnet", Options())
    nothing = pd.DataFrame({"rule": [], "dataset": [], "trigger": [], "net": [], "defence": []})
    table = findings({"badnet_repair": nothing}, [{"part": "badnet", **ABOUT, "configuration": options}], PAPERS)
    assert table.empty
    assert "verdict" in table


def test_how_it_was_trained_is_not_what_was_trained():
    training = {**PAPERS["cifar10"]["dpa"]["training"], "precision": "fp32", "strategy": "loop"}
    assert dpa(changes={"training": training}).loc["dpa-cifar10-k50-clean", "differs"] == ""


def test_other_numbers_of_partitions_stand_beside_the_nearest():
    table = dpa(k=200)
    numbers = table[table["kind"] == "number"]
    assert set(numbers.index) == {f"dpa-cifar10-k250-{name}" for name in ("median", "clean", "base")}
    assert set(numbers["differs"]) == {"k is 200 instead of 250"}
    assert set(numbers["verdict"]) == {"not comparable"}
    assert len(dpa(k=250)) == 3


# Runs and their commands ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [[], ["config/mnist_reduced.yaml"], ["config/cifar10.yaml", "config/finite.yaml"]])
@pytest.mark.parametrize("part", list(TABLES))
def test_the_command_repeats_the_options(part, files, monkeypatch):
    monkeypatch.chdir(ROOT)
    whole = check(files).model_dump(mode="json")
    whole["seed"], whole["dpa"]["k"], whole["rab"]["training"]["epochs"] = 3, [7, 9], 2
    whole["data"]["root"] = "/somewhere"
    options = parse(whole)
    words = shlex.split(configuration.repeat(part, options, files))
    assert words[:4] == ["snakemake", "--cores", "2", f"results/{TABLES[part][0]}.csv"]
    assert [word for word in words if word.endswith(".yaml")] == files
    given = [word.split("=", 1) for word in words[words.index("--config") + 1 :]]
    again = check(files).model_dump(mode="json")
    merge(again, {key: yaml.safe_load(value) for key, value in given})
    assert configuration.of_part(part, parse(again)) == configuration.of_part(part, options)
    assert "/somewhere" not in " ".join(words)


def test_a_part_is_described_by_its_artefacts_and_times(tmp_path):
    config = configuration.of_part("dpa", Options())
    with pytest.raises(InputError, match="no artefact of dpa"):
        describe(tmp_path, "dpa", config, {}, "")
    for table in (*TABLES["dpa"], *TABLES["backdoor"]):
        write_csv(tmp_path / f"{table}.csv", pd.DataFrame({"table": [table]}))
    folder = tmp_path / "digits/dpa/clean/k50d1"
    write_hdf5(folder / "subsets.h5", {}, {}, gather({}))
    card = gather({}, device="NVIDIA H100 80GB HBM3", peak_gpu_bytes=7)
    write_safetensors(folder / "models/1-of-1.safetensors", {}, {}, {**card, "processor": "Xeon, 16 cores"})
    with pytest.raises(InputError, match="no time of dpa"):
        describe(tmp_path, "dpa", config, {}, "")
    for name, seconds in {
        "digits/make_data": 1, "digits/dpa/clean/k50d1/train_slice/1-of-1": 2, "tabulate_certificates": 4,
        "digits/dpa/clean/k51d1/gather_scores": 8, "digits/dpa/clean/k50d1/triggered/fourpixel-d1/certify_examples": 16,
        "digits/dpa/fourpixel-d1-t0-r5-s0/k50d1/gather_scores": 32, "digits28/make_data": 64,
    }.items():  # fmt: skip
        path = tmp_path / "benchmarks" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\tmax_rss\n9\t1\n{seconds}\tNA\n")  # as it last ran
    run = describe(tmp_path, "dpa", config, {}, "")
    assert (run["seconds"], run["jobs"], run["peak_gpu_bytes"]) == (1 + 2 + 4 + 16 + 32, 5, 7)
    known = [tmp_path / "benchmarks/digits/make_data.tsv"]
    assert describe(tmp_path, "dpa", config, {}, "", known)["seconds"] == 1
    assert run["hardware"] == f"NVIDIA H100 80GB HBM3 ({gather({})['processor']}; Xeon, 16 cores)"
    trained = {"recipe": {"model": "small_cnn", "seed": 0, "options": {"steps": 3}}}
    write_safetensors(folder / "models/1-of-1.safetensors", {}, trained, card)
    with pytest.raises(InputError, match=r"was trained with dpa\.training\.steps = 3, which is 150 now"):
        describe(tmp_path, "dpa", config, {}, "")
    of_this_run = describe(tmp_path, "dpa", config, {}, "", artefacts=[folder / "subsets.h5"])  # others are of another
    assert (of_this_run["hardware"], of_this_run["peak_gpu_bytes"]) == (f"cpu ({gather({})['processor']})", 0)
    known[0].write_text("s\tmax_rss\n")
    with pytest.raises(InputError, match="is no whole benchmark"):
        describe(tmp_path, "dpa", config, {}, "", known, [folder / "subsets.h5"])
    known[0].write_text("s\tmax_rss\n1\t7\n")
    whole = describe(tmp_path, "backdoor", configuration.of_part("backdoor", Options()), {}, "")
    assert whole["seconds"] == 1 + 2 + 16 + 32


def test_a_folder_without_runs_is_described_by_its_configuration_files(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    results = tmp_path / "results"
    with pytest.raises(InputError, match="final tables of no part"):
        record(results, "one", tmp_path / "docs", files=[])
    write_hdf5(results / "mnist/dpa/clean/k100d1/subsets.h5", {}, {}, gather({}))
    time = results / "benchmarks/mnist/dpa/clean/k100d1/gather_scores.tsv"
    time.parent.mkdir(parents=True)
    time.write_text("s\tmax_rss\n2.5\t7\n")
    for table in TABLES["dpa"]:
        (results / f"{table}.csv").write_bytes((ROOT / f"docs/results/mnist_reduced/{table}.csv").read_bytes())
    folder = record(results, "one", tmp_path / "docs", files=["config/mnist_reduced.yaml"])
    run = json.loads((folder / "run.json").read_text())["parts"]["dpa"]
    assert (run["seconds"], run["hardware"]) == (2.5, f"cpu ({gather({})['processor']})")
    assert run["command"] == "snakemake --cores 2 results/dpa_cert.csv --configfile config/mnist_reduced.yaml"
    assert len(pd.read_csv(folder / "findings.csv")) == 5


# Records --------------------------------------------------------------------------------------------------------------


def test_a_carried_folder_is_recorded(tmp_path):
    """Tables and runs/ alone are enough, and nothing of this machine is added."""
    source = next(path.parent for path in sorted((ROOT / "docs/results").glob("*/run.json")))
    whole = json.loads((source / "run.json").read_text())["parts"]
    part, run = next(iter(whole.items()))
    carried = tmp_path / "results"
    (carried / "runs").mkdir(parents=True)
    (carried / "runs" / f"{part}.json").write_text(json.dumps(run | {"hardware": "elsewhere", "seconds": 12.5}))
    with pytest.raises(InputError, match=rf"{next(iter(run['tables']))}\.csv does not exist"):
        record(carried, "one", tmp_path / "docs", ROOT / "config")
    assert not (tmp_path / "docs").exists()
    for table in run["tables"]:
        (carried / f"{table}.csv").write_bytes((source / f"{table}.csv").read_bytes())
    folder = record(carried, "one", tmp_path / "docs", ROOT / "config")
    found = pd.read_csv(folder / "findings.csv")
    assert set(found["part"]) == {part}
    assert set(found["hardware"]) == {"elsewhere"}
    assert set(found["seconds"]) == {12.5}
    assert "elsewhere; 12 seconds" in (folder / "README.md").read_text()
    assert " | elsewhere | 12 | [one](one/README.md) |" in (tmp_path / "docs/README.md").read_text()
    again = {path.name: path.read_bytes() for path in folder.iterdir()}
    record(carried, "one", tmp_path / "docs", ROOT / "config")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == again
    changed = carried / f"{table}.csv"
    for data in (changed.read_bytes().replace(b"1", b"2", 1), b"a;b\n1;2\n"):
        changed.write_bytes(data)
        with pytest.raises(InputError, match=rf"{table}\.csv is not the table that this run ended with"):
            record(carried, "one", tmp_path / "docs", ROOT / "config")
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == again


def test_parts_of_several_runs_are_not_recorded_as_one(tmp_path):
    """Where another configuration's runs/ and pictures lie in the same folder."""
    carried = tmp_path / "results"
    for source in ("digits", "mnist_reduced"):
        whole = json.loads((ROOT / f"docs/results/{source}/run.json").read_text())["parts"]
        for part in ("dpa", "backdoor") if source == "digits" else ("dpa",):
            write_bytes(carried / f"runs/{part}.json", json.dumps(whole[part]).encode())
            for table in whole[part]["tables"]:
                write_bytes(carried / f"{table}.csv", (ROOT / f"docs/results/{source}/{table}.csv").read_bytes())
    with pytest.raises(InputError, match=r"of several runs, with different dataset \(dpa: mnist, backdoor: digits\)"):
        record(carried, "one", tmp_path / "docs", ROOT / "config")
    for attack in ("fourpixel-d1-t0", "old-t0"):
        write_bytes(carried / f"pictures/backdoor/{attack}/success_rate.svg", b"<svg/>")
    folder = record(carried, "one", tmp_path / "docs", ROOT / "config", parts=["backdoor"])
    assert [path.name for path in folder.glob("*.svg")] == ["backdoor_fourpixel-d1-t0_success_rate.svg"]
    assert not list((tmp_path / "docs").glob(".*"))


def test_a_record_needs_runs_and_a_plain_name(tmp_path):
    with pytest.raises(InputError, match=r"runs holds no PART\.json"):
        record(tmp_path, "one", tmp_path / "docs", ROOT / "config")
    with pytest.raises(InputError, match=r"'\.\./one' is no name"):
        record(tmp_path, "../one", tmp_path / "docs", ROOT / "config")
    with pytest.raises(InputError, match="run inside the clone"):
        papers(tmp_path)


def test_what_docs_say_follows_from_the_recorded_tables(tmp_path):
    docs = tmp_path / "results"
    shutil.copytree(ROOT / "docs/results", docs)
    again(docs, ROOT / "config")
    for path in sorted(path for path in docs.rglob("*") if path.is_file()):
        kept = ROOT / "docs/results" / path.relative_to(docs)
        assert path.read_bytes() == kept.read_bytes(), f"{kept} is not what `mithridate rerecord` makes"


def test_every_finding_says_where_it_comes_from():
    for name, (runs, found, _) in load_records(ROOT / "docs/results").items():
        assert len(found), name
        assert found[["hardware", "seconds", "command", "source"]].notna().all(axis=None), name
        assert (found["seconds"] > 0).all(), name
        assert found["command"].str.startswith("snakemake ").all(), name
        assert all(run["versions"]["torch"] for run in runs), name


def test_every_claim_that_needs_no_setting_is_answered():
    shown = {row for _, found, _ in load_records(ROOT / "docs/results").values() for row in found["id"]}
    assert set(published().query("run == ''")["id"]) <= shown


def test_what_nobody_ran_is_listed_without_a_value_of_ours():
    known = load_records(ROOT / "docs/results")
    text = (ROOT / "docs/results/README.md").read_text().split("## Not run in the published setting")[1]
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| setting")]
    same = {row for _, found, _ in known.values() for row in found.loc[found["differs"].isna(), "id"]}
    shown = {row for _, found, _ in known.values() for row in found["id"]}
    asked = published().query("run != ''")
    asked = asked[~(asked["id"].isin(shown) & (asked["unlike"] != ""))]
    assert len(lines) == (~asked["id"].isin(same)).sum()
    assert all(line.count(" | ") == 3 for line in lines)
    commands = {line for line in text.splitlines() if line.startswith("`snakemake --cores 2 results/")}
    assert len(commands) == len(asked[~asked["id"].isin(same)].groupby(["part", "run"]))
