"""The table of backdoors against numbers counted by hand, and the names of attacks and runs."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from mithridate.certify.backdoor import Results, certified, matrix, measure, runs
from mithridate.certify.intervals import clopper_pearson
from mithridate.errors import InputError
from mithridate.options.attacks import AttackOptions, DpaAttackOptions, triggers, variants
from mithridate.options.root import parse
from mithridate.options.runs import Runs, boosts, folders

LABELS = np.array([0, 0, 1, 1, 2, 2, 2, 2])


def rows(predictions: list[int], radius: list[int] | int = 0) -> pd.DataFrame:
    return pd.DataFrame({"label": LABELS, "prediction": predictions, "radius": radius})


RIGHT = LABELS.tolist()
CLEAN = rows(RIGHT, [9, 9, 4, 3, 2, 2, 1, 0])
DECEIVED = rows([0, 0, 0, 0, 0, 1, 2, 2])  # of six images of other classes three are taken for class 0, two are right


def test_rates_leave_out_the_target_class():
    found = measure(rows([0, 1, 1, 1, 2, 2, 2, 0]), DECEIVED, target=0)
    assert found == {
        "n_test": 8,
        "n_triggered": 6,
        "clean_accuracy": 6 / 8,
        "asr": 3 / 6,
        "triggered_accuracy": 2 / 6,
    }


def test_a_replaced_image_counts_twice_against_the_certificate():
    wrong = CLEAN.assign(prediction=[0, 0, 1, 2, 2, 2, 2, 2])
    assert certified(CLEAN, wrong, target=0, poisoned=1) == {"certified_clean": 6 / 8, "certified_triggered": 3 / 6}
    assert certified(CLEAN, wrong, target=0, poisoned=0) == {"certified_clean": 1, "certified_triggered": 5 / 6}
    assert certified(CLEAN, wrong, target=0, poisoned=5)["certified_clean"] == 0


ATTACK = DpaAttackOptions(poisoned=[0, 1], seeds=2)
ENSEMBLE = (4, 1, 1)


def results() -> Results:
    names = ["clean", *variants([ATTACK])]
    trigger, shown = ATTACK.trigger_name, {name: DECEIVED if name != "clean" else CLEAN for name in names}
    singles = {(name, ""): CLEAN for name in names} | {(name, trigger): shown[name] for name in names}
    singles = {key: table.assign(radius=0) for key, table in singles.items()}  # nothing is certified of one classifier
    certificates = {(name, "", ENSEMBLE, "dpa"): CLEAN for name in names}
    certificates |= {(name, trigger, ENSEMBLE, "dpa"): CLEAN for name in names}
    check = {"method": "dpa", "touched_subsets": 2, "possible_flips": 5, "observed_flips": 1}
    checks = {(n, *ENSEMBLE): pd.DataFrame([{"trigger": t, **check} for t in ("", trigger)]) for n in names[1:]}
    return Results(singles, certificates, checks, {"clean": 0, **dict.fromkeys(names[1:], 1)})


def test_one_row_per_poisoned_set_and_defence_with_the_clean_twin_beside():
    table = runs([ATTACK], results())
    assert table[["poisoned", "poison_seed", "defence"]].to_numpy().tolist() == [
        [0, 0, "single"], [0, 0, "dpa"], [1, 0, "single"], [1, 0, "dpa"], [1, 1, "single"], [1, 1, "dpa"],
    ]  # fmt: skip
    assert table["asr"].tolist() == [0, 0, 0.5, 0, 0.5, 0]
    assert (table["clean_twin_asr"] == 0).all()
    assert table["touched_subsets"].tolist() == [0, 0, 1, 2, 1, 2]
    assert table["certified_triggered"].tolist() == [1, 1, 0, 4 / 6, 0, 4 / 6]
    assert table["claim"].tolist() == ["no attack"] * 2 + ["empirical only", "within reach of a certificate"] * 2
    assert table["largest_radius"].tolist() == [0, 2] * 3


def test_the_matrix_has_an_interval_over_images_and_one_over_poisoned_sets():
    made = runs([ATTACK], results()).assign(dataset="digits")
    made.loc[(made["defence"] == "single") & (made["poison_seed"] == 1), "asr"] = 5 / 6
    table = matrix(made, 0.9).set_index(["poisoned", "defence"])
    row = table.loc[(1, "single")]
    assert row["poison_seeds"] == 2
    assert row["asr"] == pytest.approx(4 / 6)
    low, high = clopper_pearson(np.array(4.0), 6, 0.9)
    assert (row["asr_low"], row["asr_high"]) == pytest.approx((float(low), float(high)))
    half = t.ppf(0.95, 1) * np.std([3 / 6, 5 / 6], ddof=1) / np.sqrt(2)
    assert (row["asr_seed_low"], row["asr_seed_high"]) == pytest.approx((max(0, 4 / 6 - half), min(1, 4 / 6 + half)))
    assert np.isnan(table.loc[(0, "single"), "asr_seed_low"])
    assert table.loc[(1, "dpa"), "mean_possible_flips"] == 5


def test_names_carry_what_matters():
    attack = AttackOptions(trigger="onepixel", delta=0.1, target=2, sources=[1, 7], poisoned=[0, 5, 0.01], seeds=1)
    assert list(variants([attack])) == ["onepixel-d0.1-t2f1+7-r5-s0", "onepixel-d0.1-t2f1+7-r0.01-s0"]
    assert list(triggers([AttackOptions(trigger="patch", size=3)])) == ["patch-z3"]
    assert AttackOptions(sources=[7, 1]).name == AttackOptions(sources=[1, 7]).name
    assert AttackOptions(delta=1e6).trigger_name == "fourpixel-d1000000"
    assert AttackOptions(delta=1e-5).trigger_name == "fourpixel-d0.00001"
    assert AttackOptions(trigger="patch", delta=3).made_by() == AttackOptions(trigger="patch").made_by()
    picture = AttackOptions(trigger="image", path="some where/my hat.png", opacity=0.5)
    assert picture.trigger_name == "image-my_hat-o0.5"


def test_clean_ensembles_see_every_trigger_and_poisoned_ones_their_own():
    attacks = [{"poisoned": [0, 5], "seeds": 1}, {"trigger": "patch", "poisoned": [5], "seeds": 1, "d": [1, 4]}]
    made = Runs(parse({"attacks": attacks}))
    shown = {(run.variant, run.ensemble.name, run.trigger) for run in made.all()}
    assert {("clean", name, t) for name in ("k50d1", "k50d4") for t in ("", "fourpixel-d1", "patch-z2")} <= shown
    poisoned = {run for run in shown if run[0] != "clean"}
    assert poisoned == {
        ("fourpixel-d1-t0-r5-s0", "k50d1", ""), ("fourpixel-d1-t0-r5-s0", "k50d1", "fourpixel-d1"),
        *((("patch-z2-t0-r5-s0"), name, t) for name in ("k50d1", "k50d4") for t in ("", "patch-z2")),
    }  # fmt: skip
    assert folders(made.all())[1] == "clean/k50d1/triggered/fourpixel-d1/"
    assert [run.row()["radius_meaning"] for run in made.all()][:: len(shown) - 1] == ["from_clean", "further_poisons"]


def test_ensembles_without_a_method_of_their_own_are_not_trained():
    assert [e.name for e in Runs(parse({"dpa": {"methods": ["dpa"]}})).ensembles] == ["k50d1"]
    assert [e.name for e in Runs(parse({"dpa": {"seeds": [1, 3], "d": [1]}})).ensembles] == ["k50d1", "k50d1m3"]
    assert boosts("") == [""]
    assert boosts("m3") == ["", "-seed1", "-seed2"]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"attacks": [{"target": 3, "sources": [3, 4]}]}, "target 3 is among the sources"),
        ({"attacks": [{"poisoned": [-1]}]}, r"attacks\.0\.poisoned is \[-1\]: -1 is neither a number of images"),
        ({"attacks": [{"poisoned": [1.0]}]}, r"1\.0 is neither a number of images \(0, 5, 25\) nor a share"),
        ({"attacks": [{"poisoned": [True]}]}, "poisoned is \\[True\\], where neither"),
        ({"attacks": [{"poisoned": [0]}]}, "only 0 images are poisoned, so there is no attack"),
        ({"attacks": [{"target": 10}]}, "attacks: digits has no class 10; its last is 9"),
        ({"rab": {"classes": [1, 12]}}, r"rab\.classes: digits has no class 12"),
        ({"rab": {"attacks": [{"d": [1]}]}}, r"rab\.attacks\.0\.d is unknown"),
        ({"attacks": [{"d": []}]}, r"attacks\.0\.d is \[\]"),
        ({"dpa": {"methods": ["collective"], "d": [1]}, "attacks": []}, r"dpa\.methods: none of collective certifies"),
        ({"dpa": {"methods": ["finite"], "d": [1, 2]}}, r"attacks: for d = \[1\] there is no clean ensemble"),
        ({"attacks": [{"poisoned": []}]}, r"attacks\.0\.poisoned"),
        ({"attacks": [{"trigger": "image"}]}, "path goes with trigger: image"),
        ({"attacks": [{"dleta": 1}]}, r"attacks\.0\.dleta is unknown; did you mean attacks\.0\.delta\?"),
        ({"attacks": [{"trigger": "sticker"}]}, r"attacks\.0\.trigger is 'sticker'"),
        ({"attacks": [{}, {"poisoned": [9]}]}, "two attacks are both named fourpixel-d1-t0; join their lists"),
        ({"attacks": [{"trigger": "image", "path": p} for p in ("a/x.png", "b/x.png")]}, "both named image-x"),
        ({"attacks": [{"d": [2]}]}, r"attacks: for d = \[2\] there is no clean ensemble; add it to dpa\.d"),
        ({"rab": {"attacks": [{"target": 7}]}}, r"not all among rab\.classes \[1, 0\]; set rab\.attacks as well"),
        ({"rab": {"classes": [3]}}, r"rab\.classes"),
        ({"rab": {"sigma": [0]}}, r"rab\.sigma\.0 is 0: input should be greater than 0"),
        ({"rab": {"models": 1}}, r"rab\.models is 1"),
    ],
)  # fmt: skip
def test_bad_attacks_get_one_clear_sentence(config, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        parse(config)
    assert "\n" not in str(caught.value)
