"""Randomized smoothing and its poisoning as their users call them."""

import json
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from mithridate.attacks.poisons import load_poison
from mithridate.certify.smoothing_results import NOTHING_TO_LOSE
from mithridate.data.dataset import load_header, load_labels
from mithridate.training.family import weight_hash
from mithridate.training.slices import read_slice
from tests.unit.making import edited
from tests.workflow.conftest import SMOOTHING, Project, smoothing

pytestmark = pytest.mark.workflow
POISON, KIND = "gaussian-s0.25-e0.1-t0", "gaussian-s0.25"
CERTIFY = {"n": 200, "points": 12, "other_points": 6}
ALONE = {"procedures": ["gaussian"], "other_model": None}  # one procedure: clean, poisoned, random


@pytest.fixture
def copied(smoothed, tmp_path) -> Project:
    """A finished run of one's own."""
    shutil.copytree(smoothed.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def planned(project, *targets: str, **changes) -> dict[str, list[str]]:
    """What a call would make, by rule, below results/digits/smoothing/ or below results/."""
    made = project.planned(*targets, config=smoothing(**changes))
    return {rule: [name.removeprefix("digits/smoothing/") for name in names] for rule, names in made.items()}


def victims(project, training_set: str) -> list[str]:
    family = read_slice(project.path(f"digits/smoothing/{training_set}/{KIND}/victims.safetensors"))[0]
    return [weight_hash(family.member(position)) for position in range(len(family.subset_ids))]


def certificates(project, training_set: str) -> pd.DataFrame:
    return pd.read_csv(project.path(f"digits/smoothing/{training_set}/{KIND}/certificates/1-of-1.csv.gz"))


def test_everything_is_made_and_a_second_call_runs_nothing(smoothed):
    for name in SMOOTHING:
        assert (smoothed.folder / name).stat().st_size > 0
    again = smoothed.run("--cores", "2", *SMOOTHING, config=smoothing())
    assert "Nothing to be done" in again.stdout
    assert not [rule for rule in planned(smoothed) if "smoothing" in rule or "victims" in rule or rule == "plot_poison"]
    assert not list(smoothed.path("").rglob("*.part"))


def test_the_tables_hold_every_victim_and_agree_with_the_certificates(smoothed):
    cert, claims = (pd.read_csv(smoothed.path(f"smoothing_{table}.csv")) for table in ("cert", "claims"))
    keys = ["procedure", "model", "training_set", "poison", "test_classes"]
    sets = cert.groupby(["procedure", "model"])["training_set"].unique().map(sorted)
    assert sets.to_dict() == {
        ("gaussian", "smoothing_digits"): ["clean", "poisoned", "random", "transfer"],
        ("macer", "smoothing_digits"): ["clean", "poisoned", "random", "transfer"],
        ("gaussian", "mlp"): ["clean", "random", "transfer"],
    }
    assert (cert.groupby(keys, dropna=False)["seed"].unique().map(list).map(lambda seeds: seeds == [0, 1])).all()
    assert len(claims) == 2 * (11 - 3)
    for training_set in ("clean", POISON):
        rows = certificates(smoothed, training_set)
        assert (rows["n"] == 200).all()
        assert rows.groupby("seed")["label"].agg(lambda labels: (labels == 0).sum()).tolist() == [4, 4]
        ours = rows[(rows["label"] == 0) & (rows["seed"] == 1)]
        poison = cert["poison"].fillna("clean") == training_set
        table = cert[poison & (cert["model"] == "smoothing_digits") & (cert["procedure"] == "gaussian")]
        table = table[(table["seed"] == 1) & (table["test_classes"] == "target")].set_index("radius")
        assert table.loc[0.1, "certified_accuracy"] == (ours["correct"] & (ours["radius"] >= 0.1)).mean()
        assert table.loc[0.1, "acr"] == pytest.approx((ours["radius"] * ours["correct"]).mean())
        assert table.loc[0.1, "acr"] > 0
    assert set(claims["claim"]) <= {"holds", "does not hold", "undecided", NOTHING_TO_LOSE}


def test_more_noises_certify_again_and_train_nothing(smoothed):
    tables = {"tabulate_smoothing", "plot_smoothing", "plot_victims", "show_table"}
    made = planned(smoothed, *SMOOTHING, certify={"n": 300, "points": 4, "other_points": 2})
    assert set(made) == tables | {"certify_victims"}
    assert len(made["certify_victims"]) == 11
    radii = {"n": 200, "points": 4, "other_points": 2, "radii": [0, 0.2]}
    assert set(planned(smoothed, *SMOOTHING, certify=radii)) == tables


def test_another_target_or_radius_leaves_the_clean_victims(smoothed):
    for changes, names in (({"target": 3}, "e0.1-t3"), ({"epsilon": 0.05}, "e0.05-t0")):
        made = planned(smoothed, "results/smoothing_cert.csv", **changes)
        assert len(made["make_poison"]) == 2
        assert made["make_random_poison"] == [f"poison/random-{names}.h5"]
        assert len(made["train_victims"]) == 11 - 3
        assert all(names in output for rule in ("make_poison", "train_victims") for output in made[rule])
        again = [output for output in made["certify_victims"] if output.startswith("clean/")]
        assert len(again) == (3 if "target" in changes else 0)  # of the target class, other test images


def test_another_noise_adds_to_what_is_there(smoothed):
    made = planned(smoothed, "results/smoothing_cert.csv", sigma=[0.25, 0.5])
    assert sorted(made["make_poison"]) == ["poison/gaussian-s0.5-e0.1-t0.h5", "poison/macer-s0.5-e0.1-t0.h5"]
    assert "make_random_poison" not in made
    for rule in ("train_victims", "certify_victims"):
        assert len(made[rule]) == 11
        assert all(re.search(r"/(gaussian|macer)-s0\.5(-other)?/", output) for output in made[rule])


def test_blocks_change_no_table(copied):
    tables = "results/smoothing_cert.csv", "results/smoothing_claims.csv"
    one, two = [
        [(copied.folder / table).read_bytes() for table in tables]
        for scatter in ((), ("--set-scatter", "points=2"))
        for done in [copied.run("--cores", "2", *tables, *scatter, config=smoothing(**ALONE, certify=CERTIFY))]
        if done.returncode == 0
    ]
    assert len(list(copied.path(f"digits/smoothing/{POISON}/{KIND}/certificates").glob("*.gz"))) == 3
    assert one[1] == two[1]
    assert one[0] == two[0]


def test_any_poison_can_be_asked_for_by_its_file(copied):
    target = "results/digits/smoothing/poison/gaussian-s0.3-e0.05-t3.h5"
    done = copied.run("--cores", "1", target, config=smoothing(procedures=[]))
    assert done.returncode == 0, done.stdout
    data = copied.path("digits/data/clean.h5")
    poison = load_poison(copied.folder / target, load_header(data).sha256)
    assert (poison.procedure, poison.sigma, poison.epsilon, poison.target) == ("gaussian", 0.3, 0.05, 3)
    assert (load_labels(data, "train")[poison.index] == 3).all()


def test_exported_splits_come_back_as_the_same_poison_with_the_same_victims(copied):
    splits = f"results/digits/smoothing/splits/{POISON}"
    done = copied.run("--cores", "1", f"{splits}/X_train.npy", config=smoothing())
    assert done.returncode == 0, done.stdout
    assert sorted(os.listdir(copied.folder / splits)) == [
        f"{x}_{y}.npy" for x in "XY" for y in ("test", "train", "val")
    ]
    shutil.move(copied.folder / splits, copied.folder / "mine")
    done = copied.run("--cores", "1", "results/smoothing_cert.csv", config=smoothing(**ALONE, own="mine"))
    assert done.returncode == 0, done.stdout
    sha256 = load_header(copied.path("digits/data/clean.h5")).sha256
    own, made = (load_poison(copied.path(f"digits/smoothing/poison/{p}.h5"), sha256) for p in ("own-e0.1-t0", POISON))
    np.testing.assert_array_equal(own.images, made.images)
    np.testing.assert_array_equal(own.index, made.index)
    assert victims(copied, "own-e0.1-t0") == victims(copied, POISON)
    assert len(set(victims(copied, POISON) + victims(copied, "clean"))) == 4
    assert certificates(copied, "own-e0.1-t0").equals(certificates(copied, POISON))
    assert "own" in set(pd.read_csv(copied.path("smoothing_cert.csv"))["training_set"])


def test_a_poison_of_another_data_set_is_named(copied):
    path = copied.path(f"digits/smoothing/poison/{POISON}.h5")
    with edited(path) as file:
        file.attrs["sha256"] = "0" * 64
    os.utime(path)
    target = f"results/digits/smoothing/{POISON}/{KIND}/victims.safetensors"
    done = copied.run("--cores", "1", target, config=smoothing())
    assert done.returncode != 0
    line = next(line for line in done.stdout.splitlines() if line.startswith("error: "))
    assert f"{POISON}.h5 was made for another data set" in line
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sigma": 0}, "configuration key smoothing.sigma.0 is "),
        ({"epsilon": -1}, "configuration key smoothing.epsilon is "),
        ({"target": 12}, "smoothing.target: digits has no class 12; its last is 9"),
        ({"certify": {"n": 5}}, "certify.n: 5 noises certify nothing at alpha = 0.001; the least number is 10"),
        ({"model": "mlp"}, "other_model is the same as model"),
        ({"procedures": []}, "error: smoothing.procedures is empty, so there is nothing to certify: name one."),
        ({"own": "nowhere"}, "smoothing.own: nowhere/X_train.npy does not exist"),
    ],
    ids=json.dumps,
)
def test_bad_options_are_named(project, changes, sentence):
    done = project.run("--cores", "1", "results/smoothing_cert.csv", config=smoothing(**changes))
    assert done.returncode != 0
    assert sentence in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
    assert not list(project.path("").rglob("*.h5*"))
