"""Folders of six .npy files as a data set and as a poisoned training set, in and out."""

from dataclasses import replace

import numpy as np
import pytest

from mithridate.attacks.exchange import own_poison, splits_of
from mithridate.attacks.poisons import (
    Poison,
    apply,
    attack_data,
    ball,
    check_ball,
    load_poison,
    random_poison,
    save_poison,
)
from mithridate.data.dataset import Dataset, draw_val_index, load, load_val_index, save, sha256, validate
from mithridate.data.digits import digits
from mithridate.data.sources import load_source
from mithridate.data.splits import NAMES, export_splits
from mithridate.errors import InputError
from mithridate.options.data import DataOptions
from mithridate.options.root import parse
from mithridate.streams import Stream

N, SHA, EPSILON, TARGET, SCALE = 60, "a" * 64, 0.1, 2, np.float32(1 / 255)
GREY = (Stream("splits").uniform(N, 3, 4, 5) * 256).astype(np.uint8)
GREY[0, 0] = np.arange(20).reshape(4, 5)
LABELS = np.arange(N) % 4
VAL = np.arange(0, N, 7)
TRAIN = np.delete(np.arange(N), VAL)
DIGITS = "90849d98dc26cc55e166032ba5b9d2f0ec0917bd14dc2742fb22a8a07ffbf310"
FILES = [f"{letter}_{name}.npy" for name in NAMES for letter in "XY"]
OURS = {"scale": 1 / 255, "target": TARGET, "epsilon": EPSILON, "seed": 3, "sha256": SHA}


def splits(poison=None, scale=1 / 255):
    test = GREY[::-1], LABELS[::-1]
    return splits_of(GREY, LABELS, VAL, *test, scale=scale, num_classes=5, poison=poison)


def read(folder, **changes) -> Dataset:
    return load_source("mine", DataOptions(source="npy", path=str(folder), **changes))


def change(path, value, *where):
    array = np.load(path)
    array[where] = value
    np.save(path, array)


@pytest.fixture
def folder(tmp_path):
    export_splits(tmp_path / "mine", splits())
    return tmp_path / "mine"


@pytest.fixture
def poison() -> Poison:
    known = attack_data(GREY * SCALE, LABELS, VAL, target=TARGET, num_classes=4, sha256=SHA)
    return random_poison(known, epsilon=EPSILON, seed=3)


# A data set -----------------------------------------------------------------------------------------------------------


def test_the_training_set_is_train_then_val(folder):
    made = read(folder)
    np.testing.assert_array_equal(made.x_train, np.concatenate([GREY[TRAIN], GREY[VAL]]))
    np.testing.assert_array_equal(made.y_train, np.concatenate([LABELS[TRAIN], LABELS[VAL]]))
    np.testing.assert_array_equal(made.x_test, GREY[::-1])
    np.testing.assert_array_equal(made.y_test, LABELS[::-1])
    np.testing.assert_array_equal(made.val_index, np.arange(len(TRAIN), N))
    assert (made.x_train.dtype, made.y_train.dtype, made.val_index.dtype) == (np.uint8, np.int64, np.int64)
    assert (made.name, made.scale, made.source) == ("mine", 1 / 255, "npy files of folder mine")


def test_out_in_and_out_again_gives_the_same_files(folder, tmp_path):
    made = read(folder)
    again = splits_of(
        made.x_train, made.y_train, made.val_index, made.x_test, made.y_test, scale=made.scale, num_classes=5
    )
    export_splits(tmp_path / "again", again)
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_grey_levels_survive_however_they_were_divided(folder):
    for levels in (GREY / np.float32(255), GREY / 255, GREY * SCALE, GREY):
        np.save(folder / "X_test.npy", levels.transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(read(folder).x_test, GREY)


def test_classes_are_as_many_as_labels_are_wide_or_as_given(folder):
    assert read(folder).num_classes == 5
    assert read(folder, classes=7).class_names == list("0123456")
    for name in NAMES:
        np.save(folder / f"Y_{name}.npy", np.load(folder / f"Y_{name}.npy").argmax(1))
    assert read(folder).num_classes == 4
    with pytest.raises(InputError, match="mine: y_train holds labels from 0 to 3, allowed are 0 to 2"):
        read(folder, classes=3)
    assert parse({"dataset": "mine", "data": {"source": "npy", "path": "x", "classes": 4}}).data.classes == 4
    with pytest.raises(InputError, match="classes as a list of names goes with source: images"):
        parse({"dataset": "mine", "data": {"source": "npy", "path": "x", "classes": ["a", "b"]}})


@pytest.mark.parametrize("name", NAMES)
def test_pixels_between_grey_levels_are_refused(name, folder):
    change(folder / f"X_{name}.npy", 0.0375, 4, 2, 3, 1)
    sentence = (
        rf"X_{name}\.npy holds pixels between grey levels \(row 4: 0\.0375 is no k/255\).*poisoned.*smoothing\.own"
    )
    with pytest.raises(InputError, match=sentence) as caught:
        read(folder)
    assert "\n" not in str(caught.value)


def test_a_poisoned_training_set_is_no_data_set(tmp_path, poison):
    export_splits(tmp_path, splits(poison))
    with pytest.raises(InputError, match=r"X_train\.npy holds pixels between grey levels"):
        read(tmp_path)


def test_a_missing_file_and_a_missing_folder_are_named(folder):
    (folder / "Y_val.npy").unlink()
    with pytest.raises(InputError, match=r"Y_val\.npy does not exist: X_train\.npy and Y_train\.npy are needed"):
        read(folder)
    with pytest.raises(InputError, match=r"nowhere/X_train\.npy does not exist"):
        read(folder / "nowhere")


# What is held out -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0, 0.5])
def test_the_val_rows_stay_the_held_out_ones(fraction, folder, tmp_path):
    made = read(folder)
    save(tmp_path / "clean.h5", made, fraction, 0, {})
    kept = load_val_index(tmp_path / "clean.h5")
    assert kept.dtype == np.int64
    np.testing.assert_array_equal(kept, made.val_index)
    stored = load(tmp_path / "clean.h5")
    np.testing.assert_array_equal(stored.x_train[kept], GREY[VAL])
    assert sha256(stored) == sha256(made)


def test_other_data_sets_keep_their_digest_and_their_draw(folder, tmp_path):
    made = validate(digits())
    assert made.val_index is None
    assert sha256(made) == DIGITS
    assert sha256(replace(made, val_index=np.arange(9))) == DIGITS
    save(tmp_path / "digits.h5", made, 0.25, 7, {})
    np.testing.assert_array_equal(load_val_index(tmp_path / "digits.h5"), draw_val_index(1437, 0.25, 7))


# A poisoned training set ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1 / 255, 1 / 256])
def test_a_poison_goes_out_and_comes_in_again(scale, tmp_path):
    pixels = GREY * np.float32(scale)
    known = attack_data(pixels, LABELS, VAL, target=TARGET, num_classes=4, sha256=SHA)
    poison = random_poison(known, epsilon=EPSILON, seed=3)
    export_splits(tmp_path, splits(poison, scale))
    for name in FILES[2:]:
        (tmp_path / name).unlink()  # X_train.npy and Y_train.npy are enough
    own = own_poison(tmp_path, GREY, LABELS, VAL, **{**OURS, "scale": scale})
    for name in ("images", "index", "labels"):
        np.testing.assert_array_equal(getattr(own, name), getattr(poison, name))
        assert getattr(own, name).dtype == getattr(poison, name).dtype
    assert (own.procedure, own.sigma, own.epsilon, own.target, own.seed) == ("own", 0, EPSILON, TARGET, 3)
    np.testing.assert_array_equal(apply(pixels, LABELS, VAL, own), apply(pixels, LABELS, VAL, poison))
    save_poison(tmp_path / "own-e0.1-t2.h5", own, pixels[own.index], {})
    np.testing.assert_array_equal(load_poison(tmp_path / "own-e0.1-t2.h5", SHA).images, own.images)


def test_only_the_training_part_goes_out_poisoned(poison):
    made, clean = splits(poison), splits()
    np.testing.assert_array_equal(made.images["train"], apply(GREY * SCALE, LABELS, VAL, poison)[TRAIN])
    moved = np.abs(made.images["train"] - clean.images["train"]).max((1, 2, 3)) > 0
    np.testing.assert_array_equal(moved, LABELS[TRAIN] == TARGET)
    for name in ("val", "test"):
        np.testing.assert_array_equal(made.images[name], clean.images[name])
    for name in NAMES:
        np.testing.assert_array_equal(made.labels[name], clean.labels[name])


def test_a_poison_of_other_rows_does_not_go_out(poison):
    held_out = replace(poison, index=np.sort(np.append(poison.index[1:], VAL[3])))
    for index in (held_out.index, poison.index + N, poison.index[1:]):
        with pytest.raises(InputError, match="does not replace all training images of class 2 that are not held out"):
            splits(replace(poison, index=index))
    with pytest.raises(InputError, match="the poison leaves the ball"):
        splits(replace(poison, index=poison.index[::-1]))


def test_quantised_poisons_go_out_in_whole_grey_levels(poison):
    test = GREY[::-1], LABELS[::-1]
    made = splits_of(GREY, LABELS, VAL, *test, scale=1 / 255, num_classes=5, poison=poison, quantise=True)
    levels = made.images["train"] * 255
    assert np.abs(levels - np.rint(levels)).max() < 1e-4
    assert np.abs(np.rint(levels) - GREY[TRAIN]).max() == 25  # 0.1 is 25.5 grey levels


def test_digits_go_out_and_come_in_again(tmp_path):
    data = validate(digits())
    known = data.x_train, data.y_train, np.arange(0, 1437, 9), data.x_test, data.y_test
    export_splits(tmp_path, splits_of(*known, scale=data.scale, num_classes=10))
    again = read(tmp_path)
    assert again.scale == data.scale
    np.testing.assert_array_equal(again.x_test, data.x_test)


def test_files_of_a_data_set_take_a_poison_of_that_data_set(folder):
    made = read(folder)
    own = own_poison(folder, made.x_train, made.y_train, made.val_index, **OURS)
    np.testing.assert_array_equal(own.index, np.flatnonzero(made.y_train[: len(TRAIN)] == TARGET))
    np.testing.assert_array_equal(own.images, made.x_train[own.index] * SCALE)


@pytest.mark.parametrize("epsilon", [0, 0.03, EPSILON, 8 / 255])
def test_what_rounding_adds_is_clipped_into_the_ball(epsilon, folder):
    clean = GREY[TRAIN] * SCALE
    over = np.clip(clean + np.float32(epsilon) + np.float32(9e-7), 0, 1)
    ours = LABELS[TRAIN] == TARGET
    near = np.where(ours[:, None, None, None], over, np.clip(clean + np.float32(5e-7), 0, 1))
    np.save(folder / "X_train.npy", near.transpose(0, 2, 3, 1))
    own = own_poison(folder, GREY, LABELS, VAL, **{**OURS, "epsilon": epsilon})
    check_ball(own, clean[ours], "own")
    np.testing.assert_array_equal(own.images, np.minimum(over[ours], ball(clean[ours], epsilon)[1]))


OWN, OTHER = (int(np.flatnonzero((LABELS[TRAIN] == TARGET) == ours)[5]) for ours in (True, False))


def moved(row, by):
    """X_train.npy with a pixel of one row moved towards ½."""
    x = (GREY[TRAIN] * SCALE).transpose(0, 2, 3, 1)
    x[row, 1, 2, 0] += np.copysign(by, 0.5 - x[row, 1, 2, 0])
    return x


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "X",
            moved(OWN, 0.1001),
            rf"X_train\.npy: row {OWN}, of class 2, is 0\.1001 away .*smoothing\.epsilon is 0\.1: raise it or clip",
        ),
        ("X", moved(OWN, 0.100002), rf"row {OWN}, of class 2"),
        (
            "X",
            moved(OTHER, 0.01),
            rf"X_train\.npy: row {OTHER}, of class \d, is 0\.01 away .* only class 2 .* poison the X_train\.npy",
        ),
        ("X", moved(OTHER, 2e-6), rf"row {OTHER}, of class \d, is 2\.\d*e-06 away .* only class 2"),
        ("X", moved(0, 0)[::-1], r"X_train\.npy: row 0, .*only class 2"),
        (
            "X",
            moved(0, 0)[..., :1],
            r"X_train\.npy holds images 51 x 1 x 4 x 5 but the clean training part is 51 x 3 x 4 x 5",
        ),
        ("X", moved(0, 0) + 1, r"X_train\.npy has pixels outside \[0, 1\]"),
        ("X", moved(0, np.nan), r"X_train\.npy has pixels outside \[0, 1\], or NaN"),
        (
            "Y",
            LABELS[TRAIN][::-1],
            r"Y_train\.npy: row 0 is of class 3 but of class 1 in the clean training part: poison the",
        ),
        ("Y", np.where(np.arange(51) == 7, 0, LABELS[TRAIN]), r"Y_train\.npy: row 7 is of class 0 but of class \d"),
        ("Y", LABELS, r"Y_train\.npy holds 60 labels but X_train\.npy 51 images"),
    ],
)
def test_a_poison_that_is_none_of_this_training_part_is_refused(name, array, message, folder):
    np.save(folder / f"{name}_train.npy", array)
    with pytest.raises(InputError, match=message) as caught:
        own_poison(folder, GREY, LABELS, VAL, **OURS)
    assert "\n" not in str(caught.value)


def test_a_whole_training_set_and_a_missing_file_are_refused(folder):
    for letter, array in (("X", GREY.transpose(0, 2, 3, 1)), ("Y", LABELS)):
        np.save(folder / f"{letter}_train.npy", array)
    with pytest.raises(InputError, match=r"holds images 60 x 3 x 4 x 5 but the clean training part is 51 x 3 x 4 x 5"):
        own_poison(folder, GREY, LABELS, VAL, **OURS)
    (folder / "Y_train.npy").unlink()
    with pytest.raises(InputError, match=r"Y_train\.npy does not exist"):
        own_poison(folder, GREY, LABELS, VAL, **OURS)
