"""What every base classifier shares must not be read from samples that an attacker may add."""

import numpy as np
import pytest
from PIL import Image

from mithridate.data.sources import load_source
from mithridate.errors import InputError
from mithridate.options.data import DataOptions
from mithridate.options.root import parse


def write_npz(path, labels):
    images = np.arange(len(labels) * 16, dtype=np.uint8).reshape(-1, 4, 4)
    np.savez(path, x_train=images, y_train=labels, x_test=images[:2], y_test=labels[:2])


def test_a_fixed_number_of_classes_does_not_follow_the_labels(tmp_path):
    path = tmp_path / "mine.npz"
    options = DataOptions(source="npz", path=str(path), classes=4)
    for labels in ([0, 1, 1], [0, 1, 3]):
        write_npz(path, np.array(labels))
        assert load_source("mine", options).num_classes == 4
    write_npz(path, np.array([0, 1, 4]))
    with pytest.raises(InputError, match="y_train holds labels from 0 to 4, allowed are 0 to 3"):
        load_source("mine", options)


def write_folder(folder, names, mode="L"):
    for split in ("train", "test"):
        for i, name in enumerate(names):
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            Image.new(mode, (4, 4), 10 * i).save(folder / split / name / "a.png")


def test_fixed_names_and_channels_do_not_follow_the_files(tmp_path):
    write_folder(tmp_path, ["b", "c"])
    options = DataOptions(source="images", path=str(tmp_path), classes=["a", "b", "c"], channels=1)
    before = load_source("mine", options)
    assert before.class_names == ["a", "b", "c"]
    assert before.y_train.tolist() == [1, 2]
    Image.new("RGB", (4, 4)).save(tmp_path / "train" / "c" / "b.png")
    assert load_source("mine", options).x_train.shape[1] == 1
    write_folder(tmp_path, ["d"])
    with pytest.raises(InputError, match=r"class d that data\.classes does not name"):
        load_source("mine", options)


@pytest.mark.parametrize(
    "data",
    [
        {"source": "npz", "path": "x.npz", "classes": ["a", "b"]},
        {"source": "images", "path": "x", "classes": 3},
        {"source": "images", "path": "x", "channels": 2},
        {"source": "npz", "path": "x.npz", "channels": 1},
    ],
)
def test_constants_go_with_their_source(data):
    with pytest.raises(InputError, match="configuration key data: "):
        parse({"dataset": "mine", "data": data})


def test_null_may_come_as_text_from_the_command_line():
    training = parse({"dpa": {"training": {"epochs": "4", "steps": "null"}}}).dpa.training
    assert (training.epochs, training.steps) == (4, None)
