"""Adversarial data as its users call it: generators, gradient attacks, robust networks, and who is robust against whom."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mithridate.adversarial.examples import load_examples
from mithridate.data.dataset import load_pixels
from mithridate.digests import digest
from mithridate.repair.networks import read_network, state
from mithridate.repair.predict import predictions
from tests.unit.test_keras_hdf5 import dense, other, sequential
from tests.workflow.conftest import Project, checkout, settings

pytestmark = pytest.mark.workflow
BRIEF = {"num_epochs": 2, "batch_size": 50, "adv_num_epochs": 1}
SUSPICIOUS = {"custom_loss": "suspiciousness", **BRIEF}
NCE, LRP = {"custom_loss": "nce", **BRIEF}, {"custom_loss": "lrp", **BRIEF}
FGSM = {"attacks": "fgsm", "mode": "only_attack"}
PGD = {"attacks": "pgd", "mode": "only_adv_training", "adv_training_type": "default", "adv_num_epochs": 1}
PGD |= {"max_iterations_pgd": 2, "eps_steps_pgd": 0.2}
SMALL = {
    "target": {"training": {"epochs": 5}},
    "generators": [SUSPICIOUS],
    "attacks": [FGSM, PGD],
    "evaluation": {"points": 20, "epsilons": [0.1, 0.3], "max_iterations_pgd": 3, "autoattack": {"iterations": 2}},
}
TABLE, RUN = "results/dgn_robustness.csv", "digits28/dgn/s0"
NETWORKS = ["none", "suspiciousness", "pgd"]
SHOWN = [
    *(("none", "clean"), ("suspiciousness", "transfer"), ("fgsm", "transfer")),
    *(("suspiciousness", "wrong-class"), ("random", "random")),
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


def table_of(project: Project) -> pd.DataFrame:
    return pd.read_csv(project.folder / TABLE, keep_default_na=False, na_values=[""])


def right(project: Project, network: str, images: np.ndarray, labels: np.ndarray) -> float:
    said = predictions(read_network(project.path(f"{RUN}/{network}.safetensors"))[0], images, scale=1.0)
    return float((said == labels).mean())


def test_every_network_has_a_row_for_every_attack_and_a_second_call_runs_nothing(compared):
    table = table_of(compared)
    kinds = [(row.defence, row.attack, row.mode) for row in table.itertuples()]
    assert kinds == [(network, *shown) for network in NETWORKS for shown in SHOWN]
    assert table["n"].tolist() == [*[360] * 5, *[20] * 4] * 3
    assert table.loc[table["mode"] == "white-box", "epsilon"].tolist() == [0.3, 0.3, 0.3, 0.1] * 3
    assert table.loc[~table["mode"].isin(["clean", "white-box"]), "epsilon"].eq(0.3).all()
    assert table["robust_accuracy"].between(table["robust_accuracy_low"], table["robust_accuracy_high"]).all()
    assert table["true_label"].tolist() == [mode in ("transfer", "wrong-class", "white-box") for _, _, mode in kinds]
    assert (table["linf"] <= table["epsilon"]).all()
    images, labels = load_pixels(compared.path("digits28/data/clean.h5"), "test")
    networks = {"none": "target", **{name: f"{name}/robust" for name in NETWORKS[1:]}}
    for name, network in networks.items():
        own = table[table["defence"] == name].set_index(["attack", "mode"])["robust_accuracy"]
        assert own[("none", "clean")].item() == right(compared, network, images, labels)
        for attack, mode, part in (
            ("suspiciousness", "transfer", "suspiciousness/test"),
            ("suspiciousness", "wrong-class", "suspiciousness/wrong"),
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


def planned(project: Project, **changes) -> dict[str, list[str]]:
    """What a changed key makes again below RUN, besides the table."""
    made = project.planned(TABLE, config=dgn(**changes))
    assert made.pop("tabulate_robustness") == ["dgn_robustness.csv"]
    return {rule: sorted(name.removeprefix(f"{RUN}/") for name in outputs) for rule, outputs in made.items()}


def test_a_changed_key_makes_only_what_depends_on_it(compared):
    attacked = [f"attacked/{name}.csv" for name in sorted(NETWORKS)]
    longer, unclipped, slower = (
        [{**SUSPICIOUS, **changed}] for changed in ({"adv_num_epochs": 2}, {"clipping": False}, {"learning_rate": 1e-4})
    )
    parts = [f"suspiciousness/{part}.h5" for part in ("test", "train", "wrong")]
    robust = {"train_robust": ["suspiciousness/robust.safetensors"]}
    images = {"generate_examples": parts, **robust, "attack_network": attacked}
    assert planned(compared, generators=longer) == {**robust, "attack_network": ["attacked/suspiciousness.csv"]}
    assert planned(compared, evaluation={**SMALL["evaluation"], "points": 21}) == {"attack_network": attacked}
    assert planned(compared, generators=unclipped) == images
    slow = planned(compared, generators=slower)
    assert slow == {"train_generators": ["suspiciousness/generators.safetensors"], **images}


def test_a_mode_says_whether_an_attack_is_a_column_or_a_row(compared):
    attacks = [{**FGSM, "mode": "both"}, {**PGD, "mode": "both", "adv_training_type": "gf"}]
    assert planned(compared, attacks=attacks) == {
        "attack_target": ["fgsm/train.h5", "pgd/test.h5", "pgd/train.h5"],
        "train_robust": ["fgsm/robust.safetensors", "pgd/robust.safetensors"],
        "attack_network": [f"attacked/{name}.csv" for name in ("fgsm", *sorted(NETWORKS))],
    }


def test_another_seed_adds_a_repetition(compared):
    made = planned(compared, seeds=2)
    assert all(name.startswith("digits28/dgn/s1/") for outputs in made.values() for name in outputs)
    assert {rule: len(outputs) for rule, outputs in made.items()} == {
        **{"train_target": 1, "find_suspicious_units": 1, "train_generators": 1, "generate_examples": 3},
        **{"attack_target": 1, "add_random_signs": 1, "train_robust": 2, "attack_network": 3},
    }


def keras_target(project: Project, path: Path) -> None:
    """The target that was trained, as a Keras file."""
    tensors = list(state(read_network(project.path(f"{RUN}/target.safetensors"))[0]).values())
    arrays = {f"d{n}": (tensors[2 * n].T, tensors[2 * n + 1]) for n in range(len(tensors) // 2)}
    layers = [dense(name, len(bias), "relu") for name, (_, bias) in arrays.items()]
    layers[-1]["config"]["activation"] = "softmax"
    first = [other("InputLayer", batch_shape=[None, 28, 28]), other("Flatten")]
    sequential(path, [*first, *layers], arrays)


def test_a_target_of_ones_own_is_taken_as_it_is_and_without_a_radius_stays_right(copied):
    keras_target(copied, copied.folder / "target.h5")
    path, name = copied.path(f"{RUN}/target.safetensors"), f"{RUN}/attacked/none.csv"
    before = digest(path)
    path.unlink()
    config = dgn(target={"path": "target.h5"}, generators=[], attacks=[], epsilon=0)
    done = copied.run("--cores", "1", f"results/{name}", config=config)
    assert done.returncode == 0, done.stdout
    assert "targets trained" not in done.stdout
    assert digest(path) == before
    rows = pd.read_csv(copied.path(name), keep_default_na=False, na_values=[""])
    assert rows["mode"].tolist() == ["clean", "random", *["white-box"] * 5]
    assert rows["epsilon"].tolist() == [0, 0, 0, 0, 0, 0.1, 0.3]
    assert rows["linf"][:5].eq(0).all()
    assert rows["right"][0] == rows["right"][1] > 180
    assert rows["right"][2:5].nunique() == 1
    assert rows["right"][6] < rows["right"][4]


def test_nothing_depends_on_what_ran_before_or_beside(compared, project):
    """Anew, on one core, without the other systems: all of its rows but times are the same."""
    done = project.run("--cores", "1", TABLE, config=dgn(attacks=[]))
    assert done.returncode == 0, done.stdout
    alone, before = table_of(project), table_of(compared)
    before = before[(before["defence"] != "pgd") & ((before["attack"] != "fgsm") | (before["mode"] == "white-box"))]
    pd.testing.assert_frame_equal(alone.drop(columns=TIMES), before.drop(columns=TIMES).reset_index(drop=True))
    for path in sorted(project.path(RUN).rglob("*.h5")) + sorted(project.path(RUN).rglob("*.safetensors")):
        assert digest(path) == digest(compared.path(f"{path.relative_to(project.path(''))}")), path


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"target": {"path": "nowhere.h5"}}, "dgn.target.path: nowhere.h5 does not exist"),
        ({"target": {"path": "target.h5"}}, "target.h5 is not a whole HDF5 file"),
        ({"target": {"training": {"epochs": 1, "learning_rate": 1e-9}}}, "dgn.target: the target is right on "),
        (
            {"epsilon": -1, "attacks": [{"attacks": "cw"}], "generators": [{**NCE, "custom_loss_constant": 0.5}]},
            "configuration key dgn.epsilon is '-1': ",
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


def test_all_pixels_may_be_relevant_and_more_units_than_there_are_end_in_one_sentence(copied):
    generators = [{**LRP, "k": 784}, {**SUSPICIOUS, "k": 151}]
    made = [f"results/{RUN}/{loss}/generators.safetensors" for loss in ("lrp", "suspiciousness")]
    done = copied.run("--cores", "2", "--retries", "0", *made, config=dgn(generators=generators))
    assert done.returncode != 0
    assert "error: k: 151 suspicious units are more than the 150 neurons of" in done.stdout
    assert "Traceback" not in done.stdout
    assert (copied.folder / made[0]).is_file()


def test_a_class_without_images_is_named(project):
    random = np.random.default_rng(0)
    y = np.arange(240) % 3
    x = random.integers(0, 60, (240, 28, 28), dtype=np.uint8)
    x[np.arange(240), 5 + 8 * y] += 180
    np.savez(project.folder / "mine.npz", x_train=x, y_train=y, x_test=x[:30], y_test=y[:30])
    config = ("dataset=mine", "data={source: npz, path: mine.npz, classes: 4}")
    config += dgn(target={"training": {"epochs": 10, "batch_size": 16}}, generators=[NCE], attacks=[])
    made = "results/mine/dgn/s0/nce/generators.safetensors"
    done = project.run("--cores", "2", "--retries", "0", made, config=config)
    assert done.returncode != 0
    assert "error: class 3 has no training images to train a generator on" in done.stdout
    assert "Traceback" not in done.stdout
    assert not list(project.path("").rglob("*.part"))
