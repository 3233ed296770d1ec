"""The poison's file: the ball exactly, refusals, the random control, uint8; and the .npy files of the original code."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mithridate.attacks.poisons import (
    Poison,
    apply,
    attack_data,
    ball,
    check_ball,
    load_poison,
    quantised,
    random_poison,
    save_poison,
)
from mithridate.data.splits import Splits, export_splits, import_splits
from mithridate.errors import InputError
from mithridate.streams import Stream
from tests.unit.making import edited

N, SHA = 60, "a" * 64
GREY = (Stream("poisons").uniform(N, 1, 4, 4) * 256).astype(np.uint8)
IMAGES = GREY.astype(np.float32) * np.float32(1 / 255)
LABELS = (Stream("labels").uniform(N) * 3).astype(np.int64)
VAL = np.arange(0, N, 5)


def data(**changes):
    given = {"images": IMAGES, "labels": LABELS, "val_index": VAL, "target": 2, "num_classes": 3, "sha256": SHA}
    return attack_data(**{**given, **changes})


@pytest.fixture
def poison() -> Poison:
    history = pd.DataFrame({"epoch": [0, 1], "upper_cost": [0.5, 0.25]})
    return replace(random_poison(data(), epsilon=0.1, seed=3), history=history, options={"a": [1, None]})


# Who is moved ---------------------------------------------------------------------------------------------------------


def test_the_attacker_moves_the_targets_training_images_and_measures_on_the_held_out_ones():
    known = data()
    held_out = np.isin(np.arange(N), VAL)
    np.testing.assert_array_equal(known.index, np.flatnonzero((LABELS == 2) & ~held_out))
    np.testing.assert_array_equal(known.images, IMAGES[known.index])
    np.testing.assert_array_equal(known.others, IMAGES[(LABELS != 2) & ~held_out])
    np.testing.assert_array_equal(known.other_labels, LABELS[(LABELS != 2) & ~held_out])
    np.testing.assert_array_equal(known.validation, IMAGES[(LABELS == 2) & held_out])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": 9}, "the training part holds no images of class 9"),
        ({"labels": np.full(N, 2)}, "no class other than the target"),
        (
            {"val_index": np.flatnonzero(LABELS != 2)[:4]},
            "none of the 4 held-out images is of class 2.*data.validation_fraction",
        ),
        ({"val_index": np.zeros(0, np.int64)}, "none of the 0 held-out"),
    ],
)
def test_an_attack_without_images_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        data(**changes)


# The ball -------------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 255), st.sampled_from([1 / 255, 1 / 16]), st.integers(0, 10**9))
def test_the_ends_of_the_ball_are_its_largest_float32(level, scale, billionths):
    epsilon = billionths / 10**9
    clean = np.minimum(np.array([level]).astype(np.float32) * np.float32(scale), np.float32(1))
    low, high = ball(clean, epsilon)
    for end, outwards in ((low, -np.inf), (high, np.inf)):
        assert end.dtype == np.float32
        assert 0 <= end[0] <= 1
        assert abs(Fraction(float(end[0])) - Fraction(float(clean[0]))) <= Fraction(epsilon)  # exactly
        assert np.abs(end - clean)[0] <= np.float32(epsilon)  # in float32
        assert float(np.abs(end - clean)[0]) <= epsilon  # its float32 difference in float64
        beyond = np.nextafter(end, np.float32(outwards))
        if 1e-30 < beyond[0] < 1:
            reach = Fraction(float(np.nextafter(np.float32(epsilon), np.float32(0))))
            assert abs(Fraction(float(beyond[0])) - Fraction(float(clean[0]))) > reach  # no room is given away


@pytest.mark.parametrize("epsilon", [0.1, 0.03, 8 / 255])
def test_a_pixel_outside_the_ball_is_found(epsilon, poison):
    made = random_poison(data(), epsilon=epsilon, seed=0)
    clean = data().images
    check_ball(made, clean, "file")
    inside = int(np.flatnonzero((made.images > clean) & (made.images < 1))[0])
    for value in (np.nextafter(made.images.flat[inside], np.float32(1)), np.float32(np.nan), np.float32(-0.1)):
        images = made.images.copy()
        images.flat[inside] = value
        with pytest.raises(InputError, match=r"file leaves the ball of ε = .* at 1 pixels"):
            check_ball(replace(made, images=images), clean, "file")
    with pytest.raises(InputError, match="both must be float32"):
        check_ball(replace(made, images=made.images.astype(np.float64)), clean, "file")


# The control ----------------------------------------------------------------------------------------------------------


def test_the_random_poison_moves_every_pixel_as_far_as_it_may():
    made, clean = random_poison(data(), epsilon=0.1, seed=0), data().images
    low, high = ball(clean, 0.1)
    assert ((made.images == low) | (made.images == high)).all()
    assert 0.4 < (made.images == high).mean() < 0.6
    same, other = random_poison(data(), epsilon=0.1, seed=0), random_poison(data(), epsilon=0.1, seed=1)
    np.testing.assert_array_equal(made.images, same.images)
    assert 0.4 < (made.images != other.images).mean() < 0.6
    assert (made.procedure, made.sigma) == ("random", 0)


# The file -------------------------------------------------------------------------------------------------------------


def test_a_poison_survives_its_file(poison, tmp_path):
    path = tmp_path / "random-e0.1-t2.h5"
    save_poison(path, poison, data().images, {"commit": "x"})
    read = load_poison(path, SHA)
    for name in ("images", "index", "labels"):
        np.testing.assert_array_equal(getattr(read, name), getattr(poison, name))
        assert getattr(read, name).dtype == getattr(poison, name).dtype
    for name in ("sha256", "procedure", "sigma", "epsilon", "target", "seed", "options"):
        assert getattr(read, name) == getattr(poison, name)
    pd.testing.assert_frame_equal(read.history, poison.history)
    without = tmp_path / "without" / "random-e0.1-t2.h5"
    save_poison(without, replace(poison, history=pd.DataFrame()), data().images, {})
    assert load_poison(without, SHA).history.empty


def test_files_are_equal_but_for_provenance(poison, tmp_path):
    for name in ("a", "b"):
        save_poison(tmp_path / name, poison, data().images, {})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_poison_outside_its_ball_is_never_written(poison, tmp_path):
    with pytest.raises(InputError, match=r"random-e0\.1-t2\.h5 leaves the ball"):
        save_poison(tmp_path / "random-e0.1-t2.h5", replace(poison, epsilon=0.09), data().images, {})
    assert not any(tmp_path.iterdir())


def test_other_files_are_refused(poison, tmp_path):
    path = tmp_path / "random-e0.1-t2.h5"
    with pytest.raises(InputError, match="does not exist"):
        load_poison(path, SHA)
    save_poison(path, poison, data().images, {})
    with pytest.raises(InputError, match="was made for another data set"):
        load_poison(path, "b" * 64)

    def broken(change) -> None:
        save_poison(path, poison, data().images, {})
        with edited(path) as file:
            change(file)
        with pytest.raises(InputError, match=r"random-e0\.1-t2\.h5"):
            load_poison(path, SHA)

    def put(name, value):
        def change(file) -> None:
            del file[name]
            file[name] = value

        return change

    for name in ("images", "index", "labels", "history", "history/epoch"):
        broken(lambda file, name=name: file.__delitem__(name))
    for name in ("sha256", "epsilon", "options", "history"):
        broken(lambda file, name=name: file.attrs.__delitem__(name))
    broken(lambda file: file.attrs.__setitem__("options", "{"))
    broken(put("images", poison.images.astype(np.float64)))
    broken(put("images", poison.images[1:]))
    broken(put("index", np.zeros_like(poison.index)))
    broken(put("index", poison.index - 100))
    broken(put("labels", poison.labels - 1))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"random-e0\.1-t2\.h5"):
        load_poison(path, SHA)


def test_a_renamed_file_is_refused(poison, tmp_path):
    save_poison(tmp_path / "random-e0.01-t2.h5", poison, data().images, {})
    with pytest.raises(InputError, match=r"random-e0\.01-t2\.h5 holds the poison random-e0\.1-t2: it was renamed"):
        load_poison(tmp_path / "random-e0.01-t2.h5", SHA)


def test_a_poison_is_put_into_its_training_set_and_no_other(poison):
    poisoned = apply(IMAGES, LABELS, VAL, poison)
    assert poisoned.dtype == np.float32
    np.testing.assert_array_equal(poisoned[poison.index], poison.images)
    rest = np.delete(np.arange(N), poison.index)
    np.testing.assert_array_equal(poisoned[rest], IMAGES[rest])
    assert not np.shares_memory(poisoned, IMAGES)
    fewer, more = VAL[LABELS[VAL] != 2], np.append(VAL, poison.index[0])
    for labels, val_index in ((LABELS[:10], VAL[:2]), (LABELS[::-1], VAL), (LABELS, fewer), (LABELS, more)):
        with pytest.raises(InputError, match=r"random-e0\.1-t2 does not replace all .* class 2 that are not held out"):
            apply(IMAGES[: len(labels)], labels, val_index, poison)
    with pytest.raises(InputError, match="the poison leaves the ball"):
        apply(IMAGES[::-1], LABELS, VAL, poison)


# uint8 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "epsilon", "levels"),
    [
        (1 / 255, 0.03, 7),
        (1 / 255, 0.1, 25),
        (1 / 255, 8 / 255, 8),
        (1 / 16, 0.1, 1),
        (1 / 16, 0.05, 0),
        (1 / 255, 0, 0),
        (1 / 255, 0.031372, 7),
    ],
)
def test_grey_levels_are_rounded_towards_the_original(scale, epsilon, levels):
    top = round(1 / scale)
    grey = (Stream("grey").uniform(N, 1, 4, 4) * (top + 1)).astype(np.uint8)
    images = grey.astype(np.float32) * np.float32(scale)
    known = data(images=images)
    made = random_poison(known, epsilon=epsilon, seed=0)
    clean = grey[known.index]
    stored = quantised(made, clean, scale)
    change = stored.astype(int) - clean
    assert stored.dtype == np.uint8
    assert np.abs(change).max() == levels
    free = (clean >= levels) & (clean <= top - levels)
    assert (np.abs(change[free]) == levels).all()
    assert ((change > 0) <= (made.images > known.images)).all()
    assert stored.max() <= top
    partly = replace(made, images=known.images + np.float32(2.6 * scale) * (known.images < 0.9), epsilon=1)
    assert set((quantised(partly, clean, scale).astype(int) - clean).ravel()) == {0, 2}


# The original's files -------------------------------------------------------------------------------------------------


@pytest.fixture
def splits() -> Splits:
    rows = {"train": slice(0, 30), "val": slice(30, 40), "test": slice(40, 60)}
    images = {name: IMAGES[part].repeat(3, axis=1) for name, part in rows.items()}
    images["train"] = images["train"] * np.array([1, 0.5, 0.25], np.float32).reshape(1, 3, 1, 1)
    return Splits(images, {name: LABELS[part] for name, part in rows.items()}, 4)


def test_splits_survive_their_files(splits, tmp_path):
    export_splits(tmp_path, splits)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{a}_{b}.npy" for a in "XY" for b in splits.images
    )
    x, y = (np.load(tmp_path / f"{letter}_train.npy", allow_pickle=False) for letter in "XY")
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((30, 4, 4, 3), np.float32, (30, 4), np.float32)
    np.testing.assert_array_equal(x[5, :, :, 1], splits.images["train"][5, 1])
    read = import_splits(tmp_path)
    assert read.num_classes == 4
    for name in splits.images:
        np.testing.assert_array_equal(read.images[name], splits.images[name])
        np.testing.assert_array_equal(read.labels[name], splits.labels[name])
        assert (read.images[name].dtype, read.labels[name].dtype) == (np.float32, np.int64)


@pytest.mark.parametrize(
    "labels",
    [LABELS[:30], LABELS[:30, None].astype(np.uint8), np.eye(4)[LABELS[:30]], np.eye(4, dtype=bool)[LABELS[:30]]],
)
@pytest.mark.parametrize("images", [IMAGES[:30, 0], IMAGES[:30, 0, :, :, None].astype(np.float64), GREY[:30, 0]])
def test_other_kinds_of_arrays_are_read_as_well(images, labels, splits, tmp_path):
    grey = Splits({name: x[:, :1] for name, x in splits.images.items()}, splits.labels, 4)
    export_splits(tmp_path, grey)
    np.save(tmp_path / "X_train.npy", images)
    np.save(tmp_path / "Y_train.npy", labels)
    read = import_splits(tmp_path)
    np.testing.assert_allclose(read.images["train"], IMAGES[:30], atol=1e-7)
    np.testing.assert_array_equal(read.labels["train"], LABELS[:30])


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("X_val", IMAGES[:10].repeat(3, 1), r"X_val.npy has shape 10 x 3 x 4 x 4: give images as"),
        ("X_val", IMAGES[:10, 0, :3].repeat(3, 1)[..., None].repeat(3, 3), "those of X_train.npy 3 x 4 x 4"),
        ("X_val", np.zeros((0, 4, 4, 3)), "X_val.npy"),
        ("X_val", np.full((10, 4, 4, 3), 200.0), "outside.*divide grey levels by 255"),
        ("X_val", np.full((10, 4, 4, 3), np.nan), "or NaN"),
        ("X_val", np.zeros((10, 4, 4, 3), np.int64), "is int64: give images as float32"),
        ("X_val", np.array([{}] * 10), "not a whole .npy file of plain numbers"),
        ("Y_val", LABELS[:9], "Y_val.npy holds 9 labels but X_val.npy 10 images"),
        ("Y_val", np.full((10, 4), 0.25), "rows must be one-hot"),
        ("Y_val", np.zeros((10, 4)), "rows must be one-hot"),
        ("Y_val", LABELS[:10] - 1, "labels from -1"),
        ("Y_val", LABELS[:10] + 0.5, "labels must be whole numbers"),
        ("Y_val", np.array(["a"] * 10), "labels must be whole numbers"),
    ],
)
def test_arrays_that_cannot_be_meant_are_refused(name, array, message, splits, tmp_path):
    export_splits(tmp_path, splits)
    np.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        import_splits(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04N.", "cut", "longer", "header"])
def test_damaged_files_are_refused(content, splits, tmp_path):
    export_splits(tmp_path, splits)
    path = tmp_path / "X_test.npy"
    whole = path.read_bytes()
    damaged = {"cut": whole[:-1], "longer": whole + b"0", "header": whole.replace(b"(20, 4", b"(99, 4")}
    path.write_bytes(content if isinstance(content, bytes) else damaged[content])
    with pytest.raises(InputError, match=r"X_test\.npy"):
        import_splits(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=r"X_test\.npy does not exist"):
        import_splits(tmp_path)
