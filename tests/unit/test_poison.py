"""Poisoned variants: who is drawn, what changes, and the artefacts."""

import json
import re
from dataclasses import replace

import h5py
import numpy as np
import pytest

from mithridate import artefacts
from mithridate.data import dataset as data
from mithridate.data.checks import image_sums
from mithridate.data.classes import select_classes
from mithridate.data.dataset import validate
from mithridate.data.digits import digits, digits28
from mithridate.data.partition import make_subsets, touched_subsets
from mithridate.data.poison import draw, load_poisoned_index, poison, resolve_count, save_poisoned, save_triggered
from mithridate.data.triggers import make_trigger, realised_norm
from mithridate.errors import InputError
from mithridate.options.attacks import AttackOptions, Variant, variants

LABELS = digits().y_train


def variant(poisoned=25, seed=0, **options):
    return Variant(AttackOptions(**options), poisoned, seed)


@pytest.mark.parametrize(("target", "sources"), [(0, None), (3, None), (0, [7]), (2, [1, 9])])
def test_images_come_from_the_sources_and_never_from_the_target(target, sources):
    attack = AttackOptions(target=target, sources=sources)
    allowed = set(range(10)) - {target} if sources is None else set(sources)
    number = int(np.isin(LABELS, list(allowed)).sum())
    drawn = draw(LABELS, attack, number, 0, 0)
    assert drawn.dtype == np.int64
    assert set(LABELS[drawn]) == allowed
    assert len(set(drawn.tolist())) == number
    with pytest.raises(InputError, match=rf"attacks\.poisoned asks for {number + 1} images .* have {number}: "):
        draw(LABELS, attack, number + 1, 0, 0)


def test_draws_are_nested_and_the_same_for_every_trigger():
    most = draw(LABELS, AttackOptions(), 250, 5, 1)
    for count in (0, 1, 5, 25):
        for options in ({}, {"delta": 0.1}, {"trigger": "patch", "size": 3}, {"poisoned": [0.5]}):
            np.testing.assert_array_equal(draw(LABELS, AttackOptions(**options), count, 5, 1), most[:count])
    two = AttackOptions(sources=[1, 2])
    np.testing.assert_array_equal(draw(LABELS, two, 9, 0, 0), draw(LABELS, AttackOptions(sources=[2, 1]), 9, 0, 0))


def test_seeds_target_and_sources_change_the_draw():
    draws = [
        draw(LABELS, AttackOptions(target=target, sources=sources), 20, seed, draw_seed)
        for target, sources, seed, draw_seed in (
            (0, None, 0, 0),
            (0, None, 1, 0),
            (0, None, 0, 1),
            (1, None, 0, 0),
            (0, [*range(1, 10)], 0, 0),
        )
    ]
    assert len({tuple(drawn) for drawn in draws}) == len(draws)


def test_draws_are_spread_over_all_candidates():
    counts = np.zeros(len(LABELS))
    for seed in range(200):
        counts[draw(LABELS, AttackOptions(), 100, 0, seed)] += 1
    assert not counts[LABELS == 0].any()
    candidates = counts[LABELS != 0]
    expected = 200 * 100 / len(candidates)
    assert abs(candidates.mean() - expected) < 1e-9
    assert abs(candidates.std() / expected**0.5 - 1) < 0.15


@pytest.mark.parametrize(
    ("poisoned", "n", "count"),
    [
        (0, 100, 0),
        (5, 100, 5),
        (25.0, 100, 25),
        (0.02, 50_000, 1000),
        (0.005, 1437, 7),
        (0.0001, 100, 1),
        (0.025, 100, 3),
    ],
)
def test_a_share_is_the_nearest_whole_number_and_at_least_one(poisoned, n, count):
    assert resolve_count(poisoned, n) == count


def test_a_test_set_of_the_target_alone_measures_nothing():
    clean = validate(digits())
    only = replace(clean, x_test=clean.x_test[:3], y_test=np.zeros(3, np.int64))
    with pytest.raises(InputError, match="all test images of digits are of class 0"):
        poison(only, variant(), 0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"target": 10}, "attacks.target: digits has no class 10, give a number from 0 to 9."),
        ({"sources": [1, 12]}, "attacks.sources: digits has no class 12, give a number from 0 to 9."),
        ({"poisoned": 1400}, "attacks.poisoned asks for 1400 images but the classes they come from"),
        ({"poisoned": 0.99}, "attacks.poisoned asks for 1423 images"),
        ({"poisoned": int((LABELS != 0).sum())}, "attacks.poisoned: 1294 poisoned images leave one class in digits"),
        ({"trigger": "patch", "size": 9}, "attacks.size: 9"),
    ],
)
def test_attacks_that_the_data_set_cannot_bear_are_refused(options, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        poison(validate(digits()), variant(**options), 0)


@pytest.mark.parametrize("make", [digits, digits28])
@pytest.mark.parametrize(
    "options", [{}, {"trigger": "blending", "target": 4}, {"poisoned": 0.02, "sources": [3], "trigger": "patch"}]
)
def test_only_the_drawn_images_and_their_labels_change(make, options):
    clean = validate(make())
    x_train, y_train, sums = clean.x_train.copy(), clean.y_train.copy(), clean.pixel_sum
    sums = None if sums is None else sums.copy()
    chosen = variant(**options)
    made = poison(clean, chosen, 7)
    attack, poisoned = chosen.attack, made.dataset
    assert len(made.index) == resolve_count(chosen.poisoned, len(y_train))
    np.testing.assert_array_equal(made.index, draw(y_train, attack, len(made.index), 7, 0))
    others = np.setdiff1d(np.arange(len(y_train)), made.index)
    np.testing.assert_array_equal(poisoned.x_train[others], x_train[others])
    np.testing.assert_array_equal(poisoned.y_train[others], y_train[others])
    expected = make_trigger(attack, clean.shape).apply(x_train[made.index], clean.scale)
    np.testing.assert_array_equal(poisoned.x_train[made.index], expected)
    assert (poisoned.y_train[made.index] == attack.target).all()
    np.testing.assert_array_equal(made.original_label, y_train[made.index])
    np.testing.assert_array_equal(made.norm, realised_norm(x_train[made.index], expected, clean.scale))
    for same in ("x_test", "y_test", "scale", "name", "source", "class_names"):
        assert getattr(poisoned, same) is getattr(clean, same)
    np.testing.assert_array_equal(clean.x_train, x_train)
    np.testing.assert_array_equal(clean.y_train, y_train)
    if sums is None:
        assert poisoned.pixel_sum is clean.pixel_sum is None
    else:  # the sum of a triggered image is that of its own pixels, the others' that of their originals
        np.testing.assert_array_equal(poisoned.pixel_sum[made.index], image_sums(expected))
        np.testing.assert_array_equal(poisoned.pixel_sum[others], sums[others])
        np.testing.assert_array_equal(clean.pixel_sum, sums)


@pytest.fixture
def clean(tmp_path):
    path = tmp_path / "clean.h5"
    data.save(path, digits28(), 0.1, 3, {})
    return path


@pytest.mark.parametrize("bytes_at_once", [784, 78_400, 1 << 24])
def test_a_variant_is_read_as_it_was_made(tmp_path, clean, monkeypatch, bytes_at_once):
    monkeypatch.setattr("mithridate.data.checks.CHUNK_BYTES", bytes_at_once)
    made = poison(data.load(clean), variant(sources=[2, 5], delta=0.5, seed=2), 3)
    path = tmp_path / f"{made.variant.name}.h5"
    save_poisoned(path, made, data.load_val_index(clean), {"commit": "abc"})
    loaded, expected = data.load(path), made.dataset  # load checks the SHA-256
    for name in ("x_train", "y_train", "x_test", "y_test", "pixel_sum"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(expected, name))
        assert getattr(loaded, name).dtype == getattr(expected, name).dtype
    assert isinstance(data.load_images(path, "train"), np.memmap)
    np.testing.assert_array_equal(data.load_sums(path), expected.pixel_sum)
    np.testing.assert_array_equal(data.load_labels(path, "train"), expected.y_train)
    np.testing.assert_array_equal(data.load_val_index(path), data.load_val_index(clean))
    np.testing.assert_array_equal(load_poisoned_index(path), made.index)

    header, before = data.load_header(path), data.load_header(clean)
    assert header.sha256 == data.sha256(expected) != before.sha256
    assert replace(header, sha256="", attack="") == replace(before, sha256="")
    assert json.loads(header.attack) == {
        "trigger": "fourpixel", "delta": 0.5, "target": 0, "sources": [2, 5],
    }  # fmt: skip
    with h5py.File(path) as file, h5py.File(clean) as reference:
        assert (file.attrs["poisoned"], file.attrs["draw_seed"]) == (25, 2)
        assert set(file.attrs) == {*reference.attrs, "poisoned", "draw_seed"}
        assert set(file) == {*reference, "poisoned_index", "poisoned_norm", "original_label"}
        np.testing.assert_array_equal(file["original_label"], made.original_label)
        np.testing.assert_array_equal(file["poisoned_norm"], made.norm)
        assert file["provenance"].attrs["commit"] == "abc"
    again = tmp_path / "again.h5"
    save_poisoned(again, made, data.load_val_index(clean), {"commit": "abc"})
    assert again.read_bytes() == path.read_bytes()


def test_a_variant_is_partitioned_like_a_clean_set(tmp_path, clean):
    made = poison(data.load(clean), variant(trigger="patch"), 3)
    save_poisoned(tmp_path / "p.h5", made, data.load_val_index(clean), {})

    def subsets(path):
        header, sums = data.load_header(path), data.load_sums(path)
        images, labels = data.load_images(path, "train"), data.load_labels(path, "train")
        return make_subsets(images, labels, 25, 2, scale=header.scale, sums=sums, sha256=header.sha256)

    before, after = subsets(clean), subsets(tmp_path / "p.h5")
    touched = touched_subsets(before, after, load_poisoned_index(tmp_path / "p.h5"))
    assert 0 < touched.sum() < 50
    for j in np.flatnonzero(~touched):
        np.testing.assert_array_equal(before.indices[j], after.indices[j])


def test_the_number_of_poisoned_images_decides_the_name_but_not_the_attack(tmp_path, clean):
    attacks = [AttackOptions(poisoned=[0, 5, 0.01], seeds=2)]
    made = {name: poison(data.load(clean), v, 0) for name, v in variants(attacks).items()}
    assert [len(p.index) for p in made.values()] == [5, 5, 14, 14]
    paths = {name: tmp_path / f"{name}.h5" for name in made}
    for name, path in paths.items():
        save_poisoned(path, made[name], data.load_val_index(clean), {})
    assert len({data.load_header(path).attack for path in paths.values()}) == 1
    assert len({data.load_header(path).sha256 for path in paths.values()}) == 4


def test_a_clean_set_has_no_poisoned_index(clean):
    with pytest.raises(InputError, match="has no data set poisoned_index"):
        load_poisoned_index(clean)


def test_triggered_test_images_are_read_like_others(tmp_path, clean, monkeypatch):
    monkeypatch.setattr("mithridate.data.checks.CHUNK_BYTES", 784 * 100)
    dataset, path = data.load(clean), tmp_path / "triggered" / "blending-d2.h5"
    attack = AttackOptions(trigger="blending", delta=2)
    save_triggered(path, dataset, attack, {"commit": "abc"})
    images, labels = data.load_images(path, "test"), data.load_labels(path, "test")
    assert isinstance(images, np.memmap)
    np.testing.assert_array_equal(images, make_trigger(attack, dataset.shape).apply(dataset.x_test, dataset.scale))
    np.testing.assert_array_equal(labels, dataset.y_test)
    norm = artefacts.read_hdf5(path, "trigger_norm")["trigger_norm"]
    np.testing.assert_array_equal(norm, realised_norm(dataset.x_test, images, dataset.scale))
    attributes = artefacts.read_attributes(path)
    assert attributes["sha256"] == data.load_header(clean).sha256
    assert (attributes["dataset"], attributes["trigger"]) == ("digits28", "blending-d2")
    assert attributes["scale"] == dataset.scale
    assert json.loads(attributes["class_names"]) == dataset.class_names
    assert json.loads(attributes["attack"])["delta"] == 2
    assert artefacts.read_provenance(path)["commit"] == "abc"
    with pytest.raises(InputError, match="has no data set x_train"):
        data.load_header(path)
    first = path.read_bytes()
    save_triggered(path, dataset, AttackOptions(trigger="blending", delta=2, target=5, poisoned=[7]), {"commit": "abc"})
    assert path.read_bytes() == first  # whom it poisons is nothing to the trigger


def test_nothing_is_left_of_a_file_that_could_not_be_finished(tmp_path, clean, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mithridate.data.poison._write_images", fail)
    made, before = poison(data.load(clean), variant(), 0), sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"p\.h5 could not be written \(No space left"):
        save_poisoned(tmp_path / "p.h5", made, np.arange(3), {})
    with pytest.raises(InputError, match=r"t\.h5 could not be written"):
        save_triggered(tmp_path / "t.h5", made.clean, AttackOptions(), {})
    assert sorted(tmp_path.iterdir()) == before


def test_classes_are_selected_in_stored_order_and_numbered_as_given():
    whole = validate(digits28())
    pair = validate(select_classes(whole, [7, 3, 1]))
    rows = np.isin(whole.y_train, [7, 3, 1])
    np.testing.assert_array_equal(pair.x_train, whole.x_train[rows])
    np.testing.assert_array_equal(np.array([7, 3, 1])[pair.y_train], whole.y_train[rows])
    np.testing.assert_array_equal(pair.pixel_sum, whole.pixel_sum[rows])
    rows = np.isin(whole.y_test, [7, 3, 1])
    np.testing.assert_array_equal(pair.x_test, whole.x_test[rows])
    np.testing.assert_array_equal(np.array([7, 3, 1])[pair.y_test], whole.y_test[rows])
    assert pair.y_train.dtype == np.int64
    assert pair.class_names == ["7", "3", "1"]
    assert pair.source.endswith("; classes 7, 3, 1 only")
    assert select_classes(validate(digits()), [1, 0]).pixel_sum is None


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ([1], "classes [1] of digits are fewer than two"),
        ([1, 1], "the same class stands twice"),
        ([1, 10], "there is no class 10, give numbers from 0 to 9"),
        ([-1, 1], "there is no class -1"),
        ([1, 4], "class 4 has no training images"),
        ([5, 1], "class 5 has no test images"),
    ],
)
def test_classes_that_cannot_be_selected_are_refused(classes, sentence):
    made = digits()
    train, test = made.y_train != 4, made.y_test != 5
    made = replace(
        made,
        x_train=made.x_train[train],
        y_train=made.y_train[train],
        x_test=made.x_test[test],
        y_test=made.y_test[test],
    )
    with pytest.raises(InputError, match=re.escape(sentence)):
        select_classes(made, classes)
