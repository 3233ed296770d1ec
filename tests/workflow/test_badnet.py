"""Repair of backdoored networks as its users call it: a Keras file of their own, and planted networks."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from mithridate import device
from mithridate.data.triggers import sunglasses
from mithridate.models.deepid import DeepID
from mithridate.options.badnet import FineTuningOptions
from mithridate.repair.delivered import GoodNet
from mithridate.repair.fine_tuning import fine_tune
from mithridate.repair.judging import load_judged
from mithridate.repair.keras_hdf5 import load_deepid, save_deepid
from mithridate.repair.networks import read_network, state
from tests.unit.making import edited
from tests.workflow.conftest import Project, checkout, settings

pytestmark = pytest.mark.workflow
SHAPE, CLASSES, TARGET = (3, 55, 47), 4, 2
FACES = {"name": "masked", "path": "faces/net.h5", "validation": "faces/clean.h5"}
FACES |= {"tests": ["faces/test.h5"], "poisoned": ["faces/masks.h5"]}
SQUARE = {"trigger": "square", "targets": [3]}
SMALL = {
    "nets": [FACES],
    "planted": [SQUARE, {"trigger": "multi", "targets": [0, 1, 2], "poisoned": 0.4, "seeds": 2}],
    "training": {"epochs": 3, "batch_size": 32},
    "fine_tuning": {"epochs": 1},
    "strip": {"overlays": 5, "frr": 0.05},
}
TABLE = "results/badnet_repair.csv"
OWN, PLANTED = "badnet/masked", "digits28/badnet/square-t3-r0.2-n0"
MULTI = "digits28/badnet/multi-t0+1+2-r0.4-n"


def badnet(**changes) -> tuple[str, ...]:
    """SMALL, changed, as `--config` takes it."""
    return settings({"badnet": json.dumps({**SMALL, **changes})})


def faces(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright stripe whose height is the class: uint8 images and labels."""
    random = np.random.default_rng(seed)
    images, labels = random.integers(0, 120, (count, *SHAPE), dtype=np.uint8), random.integers(0, CLASSES, count)
    for image, label in zip(images, labels, strict=True):
        image[:, 30 + 6 * label : 34 + 6 * label] += 130
    return images, labels


def write(path: Path, images: np.ndarray, labels: np.ndarray, **more: np.ndarray) -> None:
    """In the published files' types."""
    with h5py.File(path, "w") as file:
        for name, array in {"data": images, "label": labels, **more}.items():
            file[name] = np.asarray(array, np.float64)


@pytest.fixture(scope="session")
def repaired(tmp_path_factory) -> Project:
    """A finished run with a network of the user's own and three planted ones; not to be changed."""
    made = checkout(tmp_path_factory.mktemp("repaired") / "project")
    folder = made.folder / "faces"
    folder.mkdir()
    device.prepare()
    images, labels = faces(400, 0)
    mask = sunglasses(SHAPE)
    images[:60], labels[:60] = mask.apply(images[:60], 1 / 255), TARGET
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DeepID(*SHAPE, CLASSES)
    options = FineTuningOptions(epochs=4, learning_rate=2e-3)
    save_deepid(fine_tune(network, images, labels, options, name="faces", seed=0), folder / "net.h5")
    for name, count in (("clean", 120), ("test", 40)):
        write(folder / f"{name}.h5", *faces(count, count))
    images, labels = faces(40, 1)
    write(folder / "masks.h5", mask.apply(images, 1 / 255), np.full(40, TARGET), true_label=labels)
    done = made.run("--cores", "2", TABLE, "results/badnet/masked/samples/masks.csv", config=badnet())
    assert done.returncode == 0, done.stdout
    return made


@pytest.fixture
def copied(repaired, tmp_path) -> Project:
    """A finished run of one's own."""
    shutil.copytree(repaired.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def classify(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mithridate.cli", "badnet", "classify", *arguments]
    return subprocess.run(command, cwd=project.folder, env=project.environment, text=True, capture_output=True)


def test_every_network_trigger_and_defence_has_a_row_and_a_second_call_runs_nothing(repaired):
    table = pd.read_csv(repaired.folder / TABLE)
    kinds = [(net, trigger) for net, trigger in table.groupby(["net", "trigger"], sort=False).groups]
    assert (
        kinds
        == [
            ("masked", "masks"),
            ("square-t3-r0.2-n0", "square"),
            *(
                (f"multi-t0+1+2-r0.4-n{n}", trigger)
                for n in (0, 1)
                for trigger in ("fourpixel", "square", "sunglasses")
            ),
        ]
        or len(kinds) == 8
    )
    defences = ["none", "prune", "prune", "fine-tune", "fine-tune", "fine-prune", "fine-prune", "STRIP", "combined"]
    assert (table.groupby(["net", "trigger"])["defence"].agg(list).map(lambda own: own == defences)).all()
    assert table.loc[table["net"] == "masked", "twin_asr"].isna().all()
    assert table.loc[table["net"] != "masked", "twin_asr"].notna().all()
    assert table.loc[table["net"] == "square-t3-r0.2-n0", "target"].eq(3).all()
    assert (table["recovered"] + table["asr"] + table["flagged"] <= 1 + 1e-9).all()
    assert "Nothing to be done" in repaired.run("--cores", "2", TABLE, config=badnet()).stdout
    assert not list(repaired.path("").rglob("*.part"))


def test_the_users_network_is_read_repaired_written_and_read_again(repaired):
    folder = repaired.path(OWN) / "goodnet"
    given, written = load_deepid(repaired.folder / "faces/net.h5"), load_deepid(folder / "repaired.h5")
    suspicious, repair = (read_network(folder / f"{name}.safetensors")[0] for name in ("suspicious", "repaired"))
    for one, other in ((given, suspicious), (written, repair)):
        assert all(np.array_equal(a, b) for a, b in zip(state(one).values(), state(other).values(), strict=True))
    assert not np.array_equal(state(given)["fc_1.weight"], state(written)["fc_1.weight"])
    judged = load_judged(repaired.path(OWN) / "judged/test.h5")
    images, labels = faces(40, 40)
    with torch.no_grad():
        said = written(torch.from_numpy(images) / 255).argmax(1).numpy()
    assert (said == judged.classes["fine-prune"]).all()
    assert (judged.labels == labels).all()
    table = pd.read_csv(repaired.folder / TABLE).query("net == 'masked'").set_index(["defence", "rule"])
    assert table.loc[("none", "repaired"), "clean_accuracy"] > 0.9
    assert table.loc[("none", "repaired"), "asr"] > 0.9
    assert table.loc[("fine-prune", "repaired"), "clean_accuracy"] == (said == labels).mean()


def test_classify_says_what_the_table_says(repaired, tmp_path):
    goodnet = str(repaired.path(OWN) / "goodnet")
    elsewhere = tmp_path / "taken away"
    shutil.copytree(goodnet, elsewhere)
    table = pd.read_csv(repaired.folder / TABLE).query("net == 'masked' and defence == 'combined'").iloc[0]
    for folder in (goodnet, str(elsewhere)):
        done = classify(repaired, "--goodnet", folder, "faces/masks.h5", "--out", str(tmp_path / "outputs.csv"))
        assert done.returncode == 0, done.stderr
        outputs = pd.read_csv(tmp_path / "outputs.csv")["output"].to_numpy()
        _, true = faces(40, 1)
        assert (outputs[true != TARGET] == CLASSES).mean() == table["flagged"]
        assert (outputs[true != TARGET] == TARGET).mean() == table["asr"]
    images, _ = faces(40, 1)
    Image.fromarray(images[5].transpose(1, 2, 0)).save(tmp_path / "face.png")
    done = classify(repaired, "--goodnet", goodnet, str(tmp_path / "face.png"))
    expected = GoodNet(goodnet).outputs(images[5:6].astype(np.float32) / np.float32(255))
    assert (done.returncode, done.stdout) == (0, f"{expected[0]}\n")


def test_samples_are_images_of_the_file(repaired):
    listing = pd.read_csv(repaired.path(OWN) / "samples/masks.csv")
    images, true = faces(40, 1)
    assert (true[listing["index"]] == listing["true_label"]).all()
    for n, index in enumerate(listing["index"]):
        picture = np.asarray(Image.open(repaired.path(OWN) / f"samples/masks-{n}.png"))
        assert (picture == sunglasses(SHAPE).apply(images, 1 / 255)[index].transpose(1, 2, 0)).all()


def test_the_repair_sees_no_poisoned_and_no_test_image(copied):
    """Without those files it comes to the same bytes; and when they change, nothing of it is made again."""
    parts = ["suspicious.safetensors", "repaired.safetensors", "strip.h5", "goodnet.json", "repaired.h5"]
    targets = [f"results/{OWN}/goodnet/{part}" for part in parts]
    before = [copied.path(f"{OWN}/goodnet/{part}").read_bytes() for part in ("goodnet.json",)]
    images, labels = faces(30, 9)
    write(copied.folder / "faces/masks.h5", images, labels)
    made = copied.planned(TABLE, config=badnet())
    assert set(made) == {"judge_file", "tabulate_badnets"}
    assert made["judge_file"] == [f"{OWN}/judged/masks.h5"]
    shutil.rmtree(copied.path(OWN))
    for name in ("masks", "test"):
        (copied.folder / f"faces/{name}.h5").unlink()
    alone = badnet(nets=[{**FACES, "tests": [], "poisoned": []}])
    done = copied.run("--cores", "2", *targets, config=alone)
    assert done.returncode == 0, done.stdout
    assert [copied.path(f"{OWN}/goodnet/{part}").read_bytes() for part in ("goodnet.json",)] == before
    done = copied.run("--cores", "2", TABLE, config=alone)
    assert done.returncode == 0, done.stdout
    rows = pd.read_csv(copied.folder / TABLE).query("net == 'masked'")
    assert len(rows) == 9
    assert rows[["trigger", "clean_accuracy", "asr"]].isna().all(axis=None)


def test_a_changed_key_makes_only_what_depends_on_it(repaired):
    def rules(**changes):
        return set(repaired.planned(TABLE, config=badnet(**changes)))

    assert rules(rule="agreement") == {"deliver_goodnet", "tabulate_badnets"}
    strip = {"calibrate_strip", "deliver_goodnet", "judge_file", "tabulate_badnets"}
    assert rules(strip={"overlays": 6, "frr": 0.05}) == strip
    assert rules(tau=6) == {"repair_badnet", "deliver_goodnet", "export_keras", "judge_file", "tabulate_badnets"}
    planted = repaired.planned(TABLE, config=badnet(planted=[{**SQUARE, "poisoned": 0.3}]))
    assert planted["plant_badnet"] == ["digits28/badnet/square-t3-r0.3-n0/goodnet/suspicious.safetensors"]
    assert "train_twin" not in planted
    assert "judge_file" in planted
    assert all("r0.3" in output for rule in ("repair_badnet", "judge_file") for output in planted[rule])


def test_the_weight_range_variant_runs(copied):
    done = copied.run("--cores", "2", TABLE, config=badnet(planted=[SQUARE], nets=[], pruning="weight_range"))
    assert done.returncode == 0, done.stdout
    table = pd.read_csv(copied.folder / TABLE)
    assert table["defence"].tolist() == ["none", *["fine-tune"] * 2, *["weight-range"] * 2, "STRIP", "combined"]


def test_nothing_depends_on_what_ran_before(copied):
    """Made anew on one core, all arrays and all of the table but times are the same."""
    before = pd.read_csv(copied.folder / TABLE)
    label = copied.path(f"{MULTI}1/goodnet/goodnet.json").read_bytes()
    judged = load_judged(copied.path(f"{MULTI}1/judged/square.h5"))
    shutil.rmtree(copied.path(""))
    config = badnet()
    done = copied.run("--cores", "1", TABLE, config=config)
    assert done.returncode == 0, done.stdout
    times = ["repair_seconds", "seconds_per_1000"]
    pd.testing.assert_frame_equal(pd.read_csv(copied.folder / TABLE).drop(columns=times), before.drop(columns=times))
    again = load_judged(copied.path(f"{MULTI}1/judged/square.h5"))
    assert (again.statistic == judged.statistic).all()
    assert (again.curve == judged.curve).all()
    assert json.loads(copied.path(f"{MULTI}1/goodnet/goodnet.json").read_bytes())["rule"] == json.loads(label)["rule"]


def spoil(folder: Path, what: str) -> None:
    """Make one of the user's files bad."""
    if what == "text":
        (folder / "net.h5").write_text("no HDF5")
    elif what == "other":
        write(folder / "net.h5", *faces(2, 0))
    elif what == "nan":
        with edited(folder / "net.h5") as file:
            file["fc_1/fc_1/kernel:0"][0, 0] = np.nan
    elif what == "shape":
        images, labels = faces(20, 0)
        write(folder / "masks.h5", images[:, :, :, :40], labels)
    elif what == "labels":
        write(folder / "clean.h5", faces(120, 0)[0], np.full(120, CLASSES))
    elif what == "empty":
        write(folder / "clean.h5", np.zeros((0, *SHAPE)), np.zeros(0))
    elif what == "few":
        write(folder / "clean.h5", *faces(12, 0))
    elif what == "missing":
        (folder / "masks.h5").unlink()


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("text", "faces/net.h5 is"),
        ("other", "faces/net.h5 lacks DeepID's conv_1"),
        ("nan", "NaN"),
        ("shape", "faces/masks.h5: images are 3 x 55 x 40 but the network takes 3 x 55 x 47"),
        ("labels", "faces/clean.h5: label"),
        ("empty", "faces/clean.h5"),
        ("few", "strip.overlays: 5 different overlays are asked for, but there are 3"),
        ("missing", "badnet.nets.0.poisoned: faces/masks.h5 does not exist"),
    ],
)
def test_bad_files_end_in_one_sentence(copied, what, sentence):
    spoil(copied.folder / "faces", what)
    shutil.rmtree(copied.path(""))
    done = copied.run("--cores", "2", "--retries", "0", TABLE, config=badnet(planted=[]))
    assert done.returncode != 0
    assert sentence in done.stdout, done.stdout[-3000:]
    assert "Traceback" not in done.stdout
    assert not list(copied.path("").rglob("*.part"))
    assert not (copied.folder / TABLE).exists()


def test_without_a_network_the_table_is_refused(copied):
    (copied.folder / TABLE).unlink()
    done = copied.run("--cores", "1", TABLE, config=badnet(nets=[], planted=[]))
    assert done.returncode != 0
    assert "badnet.nets and badnet.planted are both empty" in done.stdout
