"""The tables of randomized smoothing from small made-up certificates, and which victims and test images they are of."""

import numpy as np
import pandas as pd
import pytest

from mithridate.certify.intervals import clopper_pearson
from mithridate.certify.smoothing import largest_radius
from mithridate.certify.smoothing_results import NOTHING_TO_LOSE, Certified, claims, tabulate
from mithridate.certify.smoothing_table import acr_drop, average_certified_radius
from mithridate.data.points import certified_points
from mithridate.errors import InputError
from mithridate.options.smoothing import SmoothingOptions
from mithridate.options.smoothing_runs import Victim, poison_name, victims

TARGET, OURS, OTHERS = 8, [3, 11, 40], [5, 7]  # positions in the test set


def options(**changes) -> SmoothingOptions:
    few = {"procedures": ["gaussian"], "other_model": None, "target": TARGET, "certify": {"radii": [0, 0.3], "n": 50}}
    return SmoothingOptions(**{**few, **changes})


def certified(victim: Victim, ours: list[list[float]], others: list[list[float]]) -> Certified:
    """Radii of each seed's network; one below 0 stands for a wrong prediction with the opposite radius."""
    tables = []
    for seed, radii in enumerate(zip(ours, others, strict=True)):
        radius = np.array([*radii[0], *radii[1]], float)
        where = [*OURS, *OTHERS][: len(radii[0])] + OTHERS[: len(radii[1])]
        label = np.where(np.isin(where, OURS), TARGET, 1)
        columns = {"seed": seed, "index": where, "label": label, "n": 50}
        tables.append(pd.DataFrame({**columns, "radius": np.abs(radius), "correct": radius >= 0, "retrained": False}))
    return Certified(victim, pd.concat(tables, ignore_index=True))


CLEAN = Victim("gaussian", 0.25, "smoothing_digits", "clean", "clean", False)
POISONED = Victim("gaussian", 0.25, "smoothing_digits", "poisoned", "gaussian-s0.25-e0.1-t8", False)
RUNS = [
    certified(CLEAN, [[0.4, 0.2, 0.0], [0.6, -0.5, 0.3]], [[0.1, 0.5], [0.2, 0.2]]),
    certified(POISONED, [[0.1, 0.0, -0.2], [0.3, 0.1, 0.1]], [[0.1, 0.5], [0.2, 0.2]]),
]


# Tables ---------------------------------------------------------------------------------------------------------------


def test_the_table_holds_what_the_certificates_say_of_either_group():
    table = tabulate(RUNS, options(), 0.9)
    assert len(table) == 2 * 2 * 2 * 2  # victims, groups, seeds, radii
    keys = ["training_set", "test_classes", "seed", "radius"]
    found = table.set_index(keys)["certified_accuracy"].to_dict()
    assert found[("clean", "target", 0, 0.0)] == 1
    assert found[("clean", "target", 0, 0.3)] == 1 / 3
    assert found[("clean", "target", 1, 0.0)] == found[("clean", "target", 1, 0.3)] == 2 / 3
    assert found[("poisoned", "target", 0, 0.0)] == 2 / 3
    assert found[("poisoned", "target", 0, 0.3)] == 0
    assert found[("clean", "others", 0, 0.3)] == found[("poisoned", "others", 0, 0.3)] == 0.5
    row = table.set_index(keys).loc[("clean", "target", 0, 0.3)]
    assert (row["ci_low"], row["ci_high"]) == tuple(part.item() for part in clopper_pearson(np.array([1]), 3, 0.9))
    average = average_certified_radius(RUNS[0].of("target", TARGET)[0], 0.9)
    assert (row["acr"], row["acr_low"], row["acr_high"]) == (average.value, average.low, average.high)
    assert row["acr"] == pytest.approx(0.2)
    assert (row["n_test"], row["n"], row["alpha"], row["target"]) == (3, 50, 0.001, TARGET)
    assert row["largest_radius"] == largest_radius(50, 0.25, 0.001)
    assert table["poison"].unique().tolist() == ["", POISONED.poison]
    assert not table.drop(columns="poison").isna().any().any()


def test_the_order_of_the_rows_and_empty_blocks_change_no_table(tmp_path):
    """Test images are certified in blocks, of which some may hold none."""
    draws, n = np.random.default_rng(0), 120
    runs, mixed = [], []
    for victim in (CLEAN, POISONED):
        known = {"seed": np.repeat([0, 1], n // 2), "index": np.tile(np.arange(n // 2), 2)}
        known["label"] = np.where(known["index"] < 40, TARGET, 1)
        radii = {"n": 50, "radius": draws.gamma(2, 0.1, n), "correct": draws.random(n) < 0.8, "retrained": False}
        runs.append(Certified(victim, pd.DataFrame({**known, **radii})))
        (tmp_path / "empty.csv").write_text(",".join(runs[-1].rows) + "\n")
        blocks = [pd.read_csv(tmp_path / "empty.csv"), runs[-1].rows.sample(frac=1, random_state=1)]
        mixed.append(Certified(victim, pd.concat(blocks, ignore_index=True)))
    for make in (claims, tabulate):
        expected, found = (make(given, options(), 0.95) for given in (runs, mixed))
        pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_the_mean_number_of_noises_and_no_other_test_images():
    run = certified(CLEAN, [[0.4, 0.2, 0.0]], [[]])
    run.rows["n"] = [10, 20, 60]
    table = tabulate([run], options(), 0.95)
    assert table["test_classes"].unique().tolist() == ["target"]
    assert table["n"].tolist() == [30, 30]
    assert claims([run], options(), 0.95).empty


def test_claims_compare_seeds_and_images_in_pairs():
    table = claims(RUNS, options(), 0.9).set_index("test_classes")
    assert table.index.tolist() == ["target", "others"]
    ours = table.loc["target"]
    clean, poisoned = (0.4 + 0.2 + 0.6 + 0.3) / 6, (0.1 + 0.3 + 0.1 + 0.1) / 6
    assert (ours["acr_clean"], ours["acr"]) == pytest.approx((clean, poisoned))
    assert ours["drop"] == pytest.approx(1 - poisoned / clean)
    direct = acr_drop(*(run.of("target", TARGET) for run in RUNS), 0.9)
    assert (ours["drop_low"], ours["drop_high"], ours["claim"]) == (direct.low, direct.high, direct.verdict)
    assert (ours["seeds"], ours["n_test"]) == (2, 3)
    others = table.loc["others"]
    assert (others["drop"], others["drop_low"], others["drop_high"]) == (0, 0, 0)
    assert others["claim"] == "undecided"  # two images judge nothing
    assert (others["seeds"], others["n_test"]) == (2, 2)


def test_clean_victims_that_certify_nothing_have_nothing_to_lose():
    """Wrong predictions count for nothing, however large their radius."""
    clean = certified(CLEAN, [[0, -0.4, 0], [0, 0, -0.1]], [[0.1, 0.5], [0.2, 0.2]])
    table = claims([clean, RUNS[1]], options(), 0.95).set_index("test_classes")
    ours = table.loc["target"]
    assert ours["claim"] == NOTHING_TO_LOSE
    assert ours[["drop", "drop_low", "drop_high"]].isna().all()
    assert (ours["acr_clean"], ours["seeds"], ours["n_test"]) == (0, 2, 3)
    assert ours["acr"] == pytest.approx((0.1 + 0.3 + 0.1 + 0.1) / 6)
    assert table.loc["others", "claim"] == "undecided"


def test_each_victim_is_compared_with_its_own_clean_twin():
    """Of the same procedure, noise and architecture."""
    asked = options(procedures=["gaussian", "macer"], sigma=[0.25, 0.5], other_model="mlp")
    runs = []
    for victim in victims(asked):
        clean = 0.1 * victim.sigma * (1 + (victim.procedure == "macer") + 4 * victim.other)
        radius = clean if victim.poison == "clean" else 0.01
        runs.append(certified(victim, [[radius] * 3] * 2, [[0.1, 0.1]] * 2))
    table = claims(runs[::-1], asked, 0.95)
    assert len(table) == 2 * sum(victim.poison != "clean" for victim in victims(asked))
    assert set(zip(table["procedure"], table["model"], strict=True)) == {
        ("gaussian", "smoothing_digits"), ("macer", "smoothing_digits"), ("gaussian", "mlp")
    }  # fmt: skip
    ours = table[table["test_classes"] == "target"]
    expected = 0.1 * ours["sigma"] * (1 + (ours["procedure"] == "macer") + 4 * (ours["model"] == "mlp"))
    np.testing.assert_allclose(ours["acr_clean"], expected)
    np.testing.assert_allclose(ours["drop"], 1 - 0.01 / expected)


# Victims --------------------------------------------------------------------------------------------------------------


def listed(**changes) -> dict[str, str]:
    """Folder to kind of training set."""
    asked = victims(options(**changes))
    folders = {victim.folder: victim.training_set for victim in asked}
    assert len(folders) == len(asked)  # none twice
    return folders


def test_no_procedure_asks_for_no_victim():
    assert listed(procedures=[], other_model="mlp", own="there", transfer=True) == {}


def test_victims_are_what_the_options_ask_for():
    clean, random, poisoned = "clean/gaussian-s0.25", "random-e0.1-t8/gaussian-s0.25", "gaussian-s0.25-e0.1-t8/"
    one = {clean: "clean", f"{poisoned}gaussian-s0.25": "poisoned", random: "random"}
    assert listed() == one
    assert listed(own="there") == one | {"own-e0.1-t8/gaussian-s0.25": "own"}
    other = {"clean/gaussian-s0.25-other": "clean", f"{poisoned}gaussian-s0.25-other": "transfer"}
    assert listed(other_model="mlp") == one | other | {"random-e0.1-t8/gaussian-s0.25-other": "random"}
    both = {"procedures": ["gaussian", "macer"]}
    two = one | {folder.replace("gaussian", "macer"): kind for folder, kind in one.items()}
    assert listed(**both, transfer=False) == two
    crossed = {f"{poisoned}macer-s0.25": "transfer", "macer-s0.25-e0.1-t8/gaussian-s0.25": "transfer"}
    assert listed(**both) == two | crossed


def test_every_noise_has_victims_of_its_own_and_shares_the_random_control():
    every = {"procedures": ["smoothadv", "gaussian", "macer"], "other_model": "mlp", "own": "there"}
    at = {sigma: listed(**every, sigma=[sigma]) for sigma in (0.25, 1)}
    assert listed(**every, sigma=[0.25, 1]) == at[0.25] | at[1]
    assert set(at[1]) == {folder.replace("-s0.25", "-s1") for folder in at[0.25]}
    assert len(at[1]) == 3 * (1 + 1 + 1 + 1 + 2) + 3
    asked = victims(options(**every))
    assert [victim.model for victim in asked if victim.other] == ["mlp"] * 3
    assert {victim.procedure for victim in asked if victim.other} == {"smoothadv"}  # the first


@pytest.mark.parametrize(
    ("epsilon", "target", "sigma", "name"),
    [
        (0.1, 8, 0.5, "macer-s0.5-e0.1-t8"),
        (0, 0, 1.0, "macer-s1-e0-t0"),
        (1e-5, 12, 0.000001, "macer-s0.000001-e0.00001-t12"),
        (8 / 255, 3, None, f"macer-e{8 / 255!r}-t3"),
    ],
)
def test_names_of_poisons_are_plain_numbers_that_give_the_same_values_again(epsilon, target, sigma, name):
    made = poison_name(options(epsilon=epsilon, target=target), "macer", sigma)
    assert made == name
    assert float(made.split("-e")[1].split("-")[0]) == epsilon


def test_clean_has_no_poison_in_the_tables():
    assert CLEAN.row()["poison"] == ""
    assert POISONED.row() == {
        "procedure": "gaussian",
        "sigma": 0.25,
        "model": "smoothing_digits",
        "training_set": "poisoned",
        "poison": "gaussian-s0.25-e0.1-t8",
    }


# Test images ----------------------------------------------------------------------------------------------------------

LABELS = np.random.default_rng(0).integers(0, 5, 80)


def test_certified_points_are_the_target_classes_and_then_others():
    points = certified_points(LABELS, 2, 6, 4, 0)
    assert points.dtype == np.int64
    assert (LABELS[points[:6]] == 2).all()
    assert (LABELS[points[6:]] != 2).all()
    assert len(set(points.tolist())) == len(points) == 10
    everything = certified_points(LABELS, 2, 1000, 1000, 0)
    assert sorted(everything.tolist()) == list(range(80))
    assert (LABELS[everything] == 2).argmin() == (LABELS == 2).sum()
    assert (LABELS[certified_points(LABELS, 2, 6, 0, 0)] == 2).all()


def test_more_points_include_fewer_and_the_seed_draws_others():
    for points, others in ((6, 4), (9, 4), (6, 11), (30, 60)):
        few, many = (certified_points(LABELS, 2, *sizes, 0) for sizes in ((3, 2), (points, others)))
        assert set(few.tolist()) <= set(many.tolist())
        ours = int((LABELS[many] == 2).sum())
        assert many[:3].tolist() == few[:3].tolist()
        assert many[ours : ours + 2].tolist() == few[3:].tolist()
    assert set(certified_points(LABELS, 2, 6, 4, 0).tolist()) != set(certified_points(LABELS, 2, 6, 4, 1).tolist())


def test_a_class_without_test_images_is_refused():
    with pytest.raises(InputError, match=r"smoothing.target: no test image is of class 5"):
        certified_points(LABELS, 5, 6, 4, 0)
