"""Backdoors, Finite Aggregation, boosting, real attacks and RAB as their users call them."""

import re
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest

from mithridate.certify.aggregation import certify_dpa, certify_finite, vote_counts
from mithridate.data.poison import load_poisoned_index
from mithridate.training.family import weight_hash
from mithridate.training.slices import read_slice
from tests.unit.making import edited
from tests.workflow.conftest import ATTACKED, Project, settings

pytestmark = pytest.mark.workflow
POISONED = "fourpixel-d1-t0-r3-s1"


def weights(project, family: str) -> dict[int, str]:
    return {
        int(number): weight_hash(members.member(position))
        for path in project.path(f"digits/dpa/{family}/models").glob("*-of-?.safetensors")
        for members in [read_slice(path)[0]]
        for position, number in enumerate(members.subset_ids)
    }


def scores(project, name: str) -> np.ndarray:
    with h5py.File(project.path(f"digits/dpa/{name}/scores.h5")) as file:
        return file["scores"][()]


def test_everything_is_made(attacked):
    for table in ("dpa_cert", "dpa_summary", "backdoor_matrix", "backdoor_runs", "rab_cert"):
        assert len(pd.read_csv(attacked.path(f"{table}.csv")))
        assert attacked.path(f"pictures/{table}.html").stat().st_size > 0
    again = attacked.run("--cores", "2", config=settings(ATTACKED))
    assert "Nothing to be done" in again.stdout


def test_draws_are_nested_and_the_same_for_every_seed_of_training(attacked):
    for seed in (0, 1):
        few, many = (load_poisoned_index(attacked.path(f"digits/data/fourpixel-d1-t0-r{r}-s{seed}.h5")) for r in (1, 3))
        assert many[:1].tolist() == few.tolist()


@pytest.mark.parametrize("ensemble", ["k7d1", "k7d2"])
def test_only_touched_subsets_are_trained_and_the_others_would_have_come_out_the_same(attacked, tmp_path, ensemble):
    check = pd.read_csv(attacked.path(f"digits/dpa/{POISONED}/{ensemble}/check.csv"), keep_default_na=False)
    clean, poisoned = weights(attacked, f"clean/{ensemble}"), weights(attacked, f"{POISONED}/{ensemble}")
    changed = {number for number in clean if clean[number] != poisoned[number]}
    assert len(changed) == check["touched_subsets"].iloc[0]
    # Train the whole poisoned family afresh: without the clean variant's files and without checkpoints.
    copy = Project(tmp_path / "project")
    shutil.copytree(attacked.folder, copy.folder, symlinks=True)
    log = next(copy.path(f"logs/digits/dpa/{POISONED}/{ensemble}/train_slice").glob("*.log")).read_text()
    taken = int(re.search(r"\((\d+) without work", log)[1])  # draws are nested: r = 1 may have trained some of r = 3
    assert len(clean) - len(changed) <= taken < len(clean)
    shutil.rmtree(copy.path("checkpoints"))
    shutil.rmtree(copy.path(f"digits/dpa/{POISONED}"))
    rules = copy.folder / "workflow" / "rules" / "dpa.smk"
    text = rules.read_text()
    start = text.index("        known=")
    rules.write_text(text[:start] + text[text.index("\n", text.index("),", start)) + 1 :])
    target = f"results/digits/dpa/{POISONED}/{ensemble}/scores.h5"
    done = copy.run("--cores", "2", target, config=settings(ATTACKED))
    assert done.returncode == 0, done.stdout
    assert (
        "without work"
        not in next(copy.path(f"logs/digits/dpa/{POISONED}/{ensemble}/train_slice").glob("*")).read_text()
    )
    assert weights(copy, f"{POISONED}/{ensemble}") == poisoned
    np.testing.assert_array_equal(scores(copy, f"{POISONED}/{ensemble}"), scores(attacked, f"{POISONED}/{ensemble}"))


def test_certificates_are_those_of_the_score_files(attacked):
    for ensemble, method in (("k7d1", "dpa"), ("k7d2", "finite")):
        for inputs in ("", "/triggered/fourpixel-d1"):
            matrix = scores(attacked, f"clean/{ensemble}{inputs}")
            rows = pd.read_csv(attacked.path(f"digits/dpa/clean/{ensemble}{inputs}/certificates.csv.gz"))
            rows = rows[rows["method"] == method]
            if method == "dpa":
                prediction, radius = certify_dpa(vote_counts(matrix))
            else:
                with h5py.File(attacked.path(f"digits/dpa/clean/{ensemble}/scores.h5")) as file:
                    shifts = file["shifts"][()]
                assert len(shifts) == 2
                prediction, radius = certify_finite(matrix.argmax(2), shifts, 10)
            assert rows["prediction"].tolist() == prediction.tolist()
            assert rows["radius"].tolist() == radius.tolist()


def test_boosting_adds_the_scores_of_further_seeds(project):
    dpa = "{k: [4], d: [1], seeds: [1, 3], methods: [dpa], training: {steps: 20, batch_size: 8, strategy: loop}}"
    done = project.run("--cores", "2", "results/dpa_cert.csv", dpa=dpa)
    assert done.returncode == 0, done.stdout
    one, three = scores(project, "clean/k4d1"), scores(project, "clean/k4d1m3")
    models = project.path("digits/dpa/clean/k4d1/models")
    assert sorted({path.stem.partition("-seed")[2] for path in models.iterdir()}) == ["", "1", "2"]
    assert not np.array_equal(one, three)
    rows = pd.read_csv(project.path("digits/dpa/clean/k4d1m3/certificates.csv.gz"))
    prediction, radius = certify_dpa(vote_counts(three))
    assert (rows["prediction"].tolist(), rows["radius"].tolist()) == (prediction.tolist(), radius.tolist())
    assert set(pd.read_csv(project.path("dpa_cert.csv"))["seeds"]) == {1, 3}
    planned = project.run("-n", "results/dpa_cert.csv", dpa=dpa.replace("[1, 3]", "[1, 3, 4]")).stdout
    trained = [line for line in planned.splitlines() if "output: " in line and ".safetensors" in line]
    assert trained
    assert all("-seed3.safetensors" in line for line in trained)  # only what is new


def test_the_table_compares_clean_and_poisoned(attacked):
    table = pd.read_csv(attacked.path("dpa_cert.csv"), keep_default_na=False)
    assert set(table["variant"]) == {"clean", *(f"fourpixel-d1-t0-r{r}-s{s}" for r in (1, 3) for s in (0, 1))}
    assert set(table["inputs"]) == {"clean", "triggered"}
    meaning = table.groupby("variant")["radius_meaning"].unique().map(list)
    assert meaning.pop("clean") == ["from_clean"]
    assert meaning.map(lambda values: values == ["further_poisons"]).all()
    assert set(table["method"]) == {"dpa", "runoff", "finite", "finite_runoff", "collective"}
    collective = table[table["certificate_kind"] == "collective"]
    assert (collective["ci_low"] == "").all()
    matrix = pd.read_csv(attacked.path("backdoor_matrix.csv"))
    assert sorted(matrix["defence"].unique()) == ["dpa", "finite", "finite_runoff", "runoff", "single"]
    assert matrix["poisoned_images"].unique().tolist() == [0, 1, 3]
    assert (matrix.loc[matrix["poisoned"] > 0, "poison_seeds"] == 2).all()
    ensembles = matrix[matrix["defence"] != "single"].set_index("poisoned")["claim"]
    assert set(ensembles[1]) == {"within reach of a certificate"}
    assert set(ensembles[3]) == {"empirical only"}  # k = 7 certifies 3 at most, and three replaced images are six


def test_a_violated_certificate_ends_the_workflow_with_the_image(attacked, tmp_path):
    copy = Project(tmp_path / "project")
    shutil.copytree(attacked.folder, copy.folder, symlinks=True)
    clean, poisoned = weights(attacked, "clean/k7d2"), weights(attacked, f"{POISONED}/k7d2")
    untouched = [number for number in clean if clean[number] == poisoned[number]]
    family = copy.path(f"digits/dpa/{POISONED}/k7d2")
    with edited(family / "scores.h5") as file:
        file["scores"][7, untouched[0]] += 1
    (family / "check.csv").unlink()
    target = f"results/digits/dpa/{POISONED}/k7d2/check.csv"
    done = copy.run("--cores", "1", target, config=settings(ATTACKED))
    assert done.returncode != 0
    assert "CertificateViolation" in done.stdout
    assert "test image 7" in done.stdout
    assert not (family / "check.csv").exists()


def test_one_range_of_partitions_alone_is_trained_and_scored(project):
    dpa = "{k: [6], d: [1], training: {steps: 4, batch_size: 8, strategy: loop}}"
    done = project.run("--cores", "1", "results/digits/dpa/clean/k6d1/scores/2-of-3.h5", dpa=dpa)
    assert done.returncode == 0, done.stdout
    family = project.path("digits/dpa/clean/k6d1")
    assert [path.name for path in (family / "models").iterdir()] == ["2-of-3.safetensors"]
    with h5py.File(family / "scores/2-of-3.h5") as file:
        assert file["subset_ids"][()].tolist() == [2, 3]
        assert file["scores/clean"].shape == (360, 2, 10)


def test_an_attack_more_retrains_nothing_that_is_there(attacked):
    more = {**ATTACKED, "attacks": "[{poisoned: [0, 1, 3, 9], seeds: 2, d: [1, 2]}]"}
    planned = attacked.run("-n", config=settings(more)).stdout
    assert "wildcards: dataset=digits, poisoned=fourpixel-d1-t0-r9-s0" in planned
    trained = [line for line in planned.splitlines() if "output: " in line and "models/" in line]
    assert trained
    assert all("-r9-" in line for line in trained)


def test_rab_certifies_on_its_own_task(attacked):
    table = pd.read_csv(attacked.path("rab_cert.csv"), keep_default_na=False)
    assert set(table["bound"]) == {"clopper-pearson", "hoeffding"}
    assert set(table["variant"]) == {"clean", "fourpixel-d0.1-t0-r5-s0", "fourpixel-d1-t0-r5-s0"}
    with h5py.File(attacked.path("digits/rab/1v0/data/clean.h5")) as file:
        assert sorted(set(file["y_train"][()])) == [0, 1]
    strong = table[(table["variant"] == "fourpixel-d1-t0-r5-s0") & (table["radius"] == table["attack_strength"])]
    assert len(strong)
    assert strong["vacuous"].all()  # six networks certify next to nothing
    assert (table.loc[table["vacuous"], "certified_accuracy"] == 0).all()


@pytest.mark.parametrize(
    ("attacks", "sentence"),
    [
        ("[{target: 12}]", "attacks: digits has no class 12; its last is 9"),
        ("[]", "error: attacks is empty, so there are no backdoors to tabulate"),
        ("[{poisoned: [1400]}]", "attacks.poisoned asks for 1400 images"),
        ("[{trigger: patch, size: 9, poisoned: [3]}]", "larger than the image"),
        ("[{trigger: image, path: nowhere.png, poisoned: [3]}]", "nowhere.png"),
    ],
)
def test_bad_attacks_are_named(project, attacks, sentence):
    done = project.run("--cores", "1", "results/backdoor_matrix.csv", config=(f"attacks={attacks}",))
    assert done.returncode != 0
    assert sentence in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
