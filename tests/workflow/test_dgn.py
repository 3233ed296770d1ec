"""Adversarial data as its users call it: generators, gradient attacks, robust networks, and who is robust against whom."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from mithridate.adversarial.examples import load_examples
from mithridate.data.dataset import load_pixels
from mithridate.repair.networks import read_network, state
from mithridate.repair.predict import predictions
from tests.unit.test_keras_hdf5 import dense, other, sequential
from tests.workflow.conftest import Project, checkout, settings

pytestmark = pytest.mark.workflow
BRIEF = {"num_epochs": 2, "batch_size": 50, "adv_num_epochs": 1}
NCE, SUSPICIOUSNESS = ({"custom_loss": loss, **BRIEF} for loss in ("nce", "suspiciousness"))
FGSM = {"attacks": "fgsm", "mode": "only_attack", "adv_num_epochs": 1}
PGD = {"attacks": "pgd", "mode": "only_adv_training", "adv_training_type": "default", "adv_num_epochs": 1}
PGD |= {"max_iterations_pgd": 2, "eps_steps_pgd": 0.2}
SMALL = {
    "target": {"training": {"epochs": 5}},
    "generators": [NCE, SUSPICIOUSNESS],
    "attacks": [FGSM, PGD],
    "evaluation": {"points": 20, "epsilons": [0.1, 0.3], "max_iterations_pgd": 3, "autoattack": {"iterations": 2}},
}
TABLE, RUN = "results/dgn_robustness.csv", "digits28/dgn/s0"
NETWORKS = ["none", "nce", "suspiciousness", "pgd"]
SHOWN = [
    *(("none", "clean"), ("nce", "transfer"), ("suspiciousness", "transfer"), ("fgsm", "transfer")),
    *(("nce", "wrong-class"), ("suspiciousness", "wrong-class"), ("random", "random")),
    *((name, "white-box") for name in ("fgsm", "pgd", "autoattack", "pgd")),
]
TIMES = ["seconds_per_1000"]


def dgn(**changes) -> tuple[str, ...]:
    """SMALL, changed, as `--config` takes it."""
    return settings({"dgn": json.dumps({**SMALL, **changes})})


@pytest.fixture(scope="session")
def compared(tmp_path_factory) -> Project:
    """A finished small run; not to be changed."""
    made = checkout(tmp_path_factory.mktemp("compared") / "project")
    done = made.run("--cores", "2", TABLE, config=dgn())
    assert done.returncode == 0, done.stdout
    return made


@pytest.fixture
def copied(compared, tmp_path) -> Project:
    """A finished run of one's own."""
    shutil.copytree(compared.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def right(project: Project, network: str, images: np.ndarray, labels: np.ndarray) -> float:
    said = predictions(read_network(project.path(f"{RUN}/{network}.safetensors"))[0], images, scale=1.0)
    return float((said == labels).mean())


def test_every_network_has_a_row_for_every_attack_and_a_second_call_runs_nothing(compared):
    table = pd.read_csv(compared.folder / TABLE, keep_default_na=False, na_values=[""])
    kinds = [(row.defence, row.attack, row.mode) for row in table.itertuples()]
    assert kinds == [(network, *shown) for network in NETWORKS for shown in SHOWN]
    assert table["n"].tolist() == [*[360] * 7, *[20] * 4] * 4
    assert table.loc[table["mode"] == "white-box", "epsilon"].tolist() == [0.3, 0.3, 0.3, 0.1] * 4
    assert table.loc[~table["mode"].isin(["clean", "white-box"]), "epsilon"].eq(0.3).all()
    assert table["robust_accuracy"].between(table["robust_accuracy_low"], table["robust_accuracy_high"]).all()
    assert table["true_label"].tolist() == [mode in ("transfer", "white-box") for _, _, mode in kinds]
    assert (table["linf"] <= table["epsilon"]).all()
    assert table[["published", "difference"]].isna().all(axis=None)
    images, labels = load_pixels(compared.path("digits28/data/clean.h5"), "test")
    networks = {"none": "target", **{name: f"{name}/robust" for name in NETWORKS[1:]}}
    for name, network in networks.items():
        own = table[table["defence"] == name].set_index(["attack", "mode"])["robust_accuracy"]
        assert own[("none", "clean")].item() == right(compared, network, images, labels)
        for attack, mode, part in (
            ("nce", "transfer", "nce/test"),
            ("nce", "wrong-class", "nce/wrong"),
            ("fgsm", "transfer", "fgsm/test"),
            ("random", "random", "random/test"),
        ):
            shown = load_examples(compared.path(f"{RUN}/{part}.h5"))
            assert (shown.attack, shown.mode, len(shown.rows)) == (attack, mode, 360)
            assert own[(attack, mode)].item() == right(compared, network, shown.images, labels)
    assert table["robust_accuracy"][0] > 0.5
    assert table.query("defence == 'none' and attack == 'pgd' and epsilon == 0.3")["robust_accuracy"].item() < 0.3
    assert "Nothing to be done" in compared.run("--cores", "2", TABLE, config=dgn()).stdout
    assert not list(compared.path("").rglob("*.part"))


def test_a_changed_key_makes_only_what_depends_on_it(compared):
    def planned(**changes):
        made = compared.planned(TABLE, config=dgn(**changes))
        assert made.pop("tabulate_robustness") == ["dgn_robustness.csv"]
        return {rule: sorted(name.removeprefix(f"{RUN}/") for name in outputs) for rule, outputs in made.items()}

    attacked = [f"attacked/{name}.csv" for name in sorted(NETWORKS)]
    robust = {"train_robust": ["nce/robust.safetensors", "pgd/robust.safetensors"]}
    longer = {"generators": [{**NCE, "adv_num_epochs": 2}, SUSPICIOUSNESS], "attacks": [FGSM, {**PGD, "adv_ratio": 1}]}
    assert planned(**longer) == {**robust, "attack_network": ["attacked/nce.csv", "attacked/pgd.csv"]}
    assert planned(evaluation={**SMALL["evaluation"], "points": 21}) == {"attack_network": attacked}
    unclipped = planned(generators=[NCE, {**SUSPICIOUSNESS, "clipping": False}])
    parts = [f"suspiciousness/{part}.h5" for part in ("test", "train", "wrong")]
    rest = {"train_robust": ["suspiciousness/robust.safetensors"], "attack_network": attacked}
    assert unclipped == {"generate_examples": parts, **rest}
    slower = planned(generators=[{**NCE, "learning_rate": 1e-4}, SUSPICIOUSNESS])
    assert slower == {
        "train_generators": ["nce/generators.safetensors"],
        "generate_examples": [f"nce/{part}.h5" for part in ("test", "train", "wrong")],
        "train_robust": ["nce/robust.safetensors"],
        "attack_network": attacked,
    }


def test_a_mode_says_whether_an_attack_is_a_column_or_a_row(compared):
    made = compared.planned(TABLE, config=dgn(attacks=[{**FGSM, "mode": "both"}, PGD]))
    assert {rule: len(outputs) for rule, outputs in made.items()} == {
        **{"attack_target": 1, "train_robust": 1, "attack_network": 1, "tabulate_robustness": 1}
    }
    assert made["attack_target"] == [f"{RUN}/fgsm/train.h5"]
    assert made["attack_network"] == [f"{RUN}/attacked/fgsm.csv"]
    made = compared.planned(TABLE, config=dgn(attacks=[{**PGD, "mode": "both", "adv_training_type": "gf"}]))
    assert sorted(made["attack_target"]) == [f"{RUN}/pgd/test.h5", f"{RUN}/pgd/train.h5"]
    assert made["train_robust"] == [f"{RUN}/pgd/robust.safetensors"]
    assert len(made["attack_network"]) == 4


def test_another_seed_adds_a_repetition(compared):
    made = compared.planned(TABLE, config=dgn(seeds=2))
    assert made.pop("tabulate_robustness") == ["dgn_robustness.csv"]
    assert all(name.startswith("digits28/dgn/s1/") for outputs in made.values() for name in outputs)
    assert {rule: len(outputs) for rule, outputs in made.items()} == {
        **{"train_target": 1, "find_suspicious_units": 1, "train_generators": 2, "generate_examples": 6},
        **{"attack_target": 1, "add_random_signs": 1, "train_robust": 3, "attack_network": 4},
    }


def test_nothing_depends_on_what_ran_before_or_beside(compared, project):
    """Anew, on one core, with a single system: all of its rows but times are the same."""
    done = project.run("--cores", "1", TABLE, config=dgn(generators=[NCE], attacks=[]))
    assert done.returncode == 0, done.stdout
    alone, before = (
        pd.read_csv(made.folder / TABLE, keep_default_na=False, na_values=[""]) for made in (project, compared)
    )
    before = before[before["defence"].isin(["none", "nce"])]
    before = before[before["attack"].isin(["none", "nce", "random"]) | (before["mode"] == "white-box")]
    pd.testing.assert_frame_equal(alone.drop(columns=TIMES), before.drop(columns=TIMES).reset_index(drop=True))
    for name in ("train", "wrong"):
        one, other = (load_examples(made.path(f"{RUN}/nce/{name}.h5")) for made in (project, compared))
        assert one.images.tobytes() == other.images.tobytes()


def keras_target(project: Project, activation: str = "relu") -> None:
    """The target that was trained, as a Keras file."""
    tensors = list(state(read_network(project.path(f"{RUN}/target.safetensors"))[0]).values())
    arrays = {f"d{n}": (tensors[2 * n].T, tensors[2 * n + 1]) for n in range(len(tensors) // 2)}
    layers = [dense(name, len(bias), activation) for name, (_, bias) in arrays.items()]
    layers[-1]["config"]["activation"] = "softmax"
    first = [other("InputLayer", batch_shape=[None, 28, 28]), other("Flatten")]
    sequential(project.folder / "target.h5", [*first, *layers], arrays)


def test_a_target_of_ones_own_is_attacked_and_without_a_radius_stays_right(copied):
    keras_target(copied)
    before = copied.path(f"{RUN}/target.safetensors")
    expected = {name: array.tobytes() for name, array in state(read_network(before)[0]).items()}
    before.unlink()
    config = dgn(target={"path": "target.h5"}, generators=[], attacks=[FGSM], epsilon=0)
    done = copied.run("--cores", "2", TABLE, config=config)
    assert done.returncode == 0, done.stdout
    assert {name: array.tobytes() for name, array in state(read_network(before)[0]).items()} == expected
    table = pd.read_csv(copied.folder / TABLE, keep_default_na=False, na_values=[""])
    assert table["defence"].eq("none").all()
    assert table["mode"].tolist() == ["clean", "transfer", "random", *["white-box"] * 5]
    assert table["epsilon"].tolist() == [0, 0, 0, 0, 0, 0, 0.1, 0.3]
    assert table["linf"][:6].eq(0).all()
    assert table["robust_accuracy"][:3].nunique() == table["robust_accuracy"][3:6].nunique() == 1
    assert table["note"].tolist() == [np.nan, "attack failed", *[np.nan] * 6] or table["note"][1] == "attack failed"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"target": {"path": "nowhere.h5"}}, "dgn.target.path: nowhere.h5 does not exist"),
        ({"target": {"path": "target.h5"}}, "target.h5 is not a whole HDF5 file"),
        ({"target": {"training": {"epochs": 1, "learning_rate": 1e-9}}}, "dgn.target: the target is right on "),
        (
            {"epsilon": -0.1, "attacks": [{"attacks": "cw"}], "generators": [{**NCE, "custom_loss_constant": 0.5}]},
            "configuration key dgn.epsilon is -0.1: ",
        ),
        ({"generators": [], "attacks": []}, "dgn.generators and dgn.attacks are both empty"),
    ],
    ids=["missing", "text", "untrained", "options", "nothing"],
)
def test_bad_input_ends_in_one_sentence(copied, changes, sentence):
    (copied.folder / "target.h5").write_text("no HDF5")
    (copied.folder / TABLE).unlink()
    done = copied.run("--cores", "2", "--retries", "0", TABLE, config=dgn(**changes))
    assert done.returncode != 0
    assert sentence in done.stdout
    if "epsilon" in changes:
        assert "dgn.attacks.0.attacks is 'cw'" in done.stdout
        assert "custom_loss_constant: nce has no constant" in done.stdout
    assert "Traceback" not in done.stdout
    assert not list(copied.path("").rglob("*.part"))
    assert not (copied.folder / TABLE).exists()


def test_more_units_than_there_are_end_in_one_sentence(copied):
    generators = [{**NCE, "custom_loss": "lrp", "k": 785}, {**SUSPICIOUSNESS, "k": 151}]
    made = [f"results/{RUN}/{loss}/generators.safetensors" for loss in ("lrp", "suspiciousness")]
    done = copied.run("--cores", "2", "--retries", "0", *made, config=dgn(generators=generators))
    assert done.returncode != 0
    assert "error: k: 785 relevant pixels are more than the 784 of an image" in done.stdout
    assert "error: k: 151 suspicious units are more than the 150 neurons of" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_class_without_images_is_named(project):
    random = np.random.default_rng(0)
    y = np.arange(240) % 3
    x = random.integers(0, 60, (240, 28, 28), dtype=np.uint8)
    x[np.arange(240), 5 + 8 * y] += 180
    np.savez(project.folder / "mine.npz", x_train=x, y_train=y, x_test=x[:30], y_test=y[:30])
    config = ("dataset=mine", "data={source: npz, path: mine.npz, classes: 4}")
    training = {"training": {"epochs": 10, "batch_size": 16}}
    generators = [{"custom_loss": loss, **BRIEF} for loss in ("lrp", "nce", "suspiciousness")]
    made = [f"results/mine/dgn/s0/{own['custom_loss']}/generators.safetensors" for own in generators]
    small = dgn(target=training, generators=generators, attacks=[])
    done = project.run("--cores", "2", "--retries", "0", *made, config=(*config, *small))
    assert done.returncode != 0
    for sentence in (
        "error: class 3 has no training image that the target classifies correctly",
        "error: class 3 has no training images to train a generator on",
        "error: class 3 has no training images that its suspicious units could be found on",
    ):
        assert sentence in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
    assert not list(project.path("").rglob("*.part"))
