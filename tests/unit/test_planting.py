"""Planted BadNets: who is poisoned and how, equal streams of net and twin, decoys, and a backdoor that works."""

import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from mithridate import device
from mithridate.certify.intervals import clopper_pearson
from mithridate.data.digits import digits
from mithridate.errors import InputError
from mithridate.options.badnet import MULTI, FineTuningOptions, PlantedOptions, PruningAwareOptions
from mithridate.options.training import plain_adam
from mithridate.repair.planting import (
    held_out_rows,
    network_of,
    plant,
    plant_report,
    poison_part,
    stamps,
    train_twins,
    triggered_test,
)
from mithridate.repair.predict import predictions
from mithridate.repair.pruning import Pruner
from mithridate.training.family import train_family
from mithridate.training.recipe import Recipe, resolve
from mithridate.training.subset import Subset

MNIST, CIFAR10, FACES = (1, 28, 28), (3, 32, 32), (3, 55, 47)
DATA = digits()
X, Y, SCALE = DATA.x_train[:120], DATA.y_train[:120], DATA.scale
SQUARE = PlantedOptions(targets=[3])
THREE = PlantedOptions(trigger="multi", targets=[4, 0, 7], poisoned=0.3, seeds=2)
AWARE = PlantedOptions(targets=[3], pruning_aware=True)
DECOYS = PruningAwareOptions(decoys=0.25, retraining=FineTuningOptions(epochs=2, learning_rate=3e-3))
LAYER, SEED = "conv_3", 5


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def recipe(epochs: int = 2, model: str = "deepid", **changed) -> Recipe:
    training = plain_adam(epochs, **{"learning_rate": 3e-3, "strategy": "loop", **changed})
    how = {"shape": DATA.shape, "num_classes": 10, "scale": SCALE, "seed": SEED, "device": "cpu"}
    return resolve(training, model=model, **how)


class Normed(nn.Module):
    def __init__(self, channels, num_classes, bias):
        super().__init__()
        self.conv_3, self.norm = nn.Conv2d(channels, 6, 3, bias=bias), nn.BatchNorm2d(6) if bias else nn.Identity()
        self.relu, self.output = nn.ReLU(), nn.Linear(6 * 36, num_classes)

    def forward(self, x):
        return self.output(self.relu(self.norm(self.conv_3(x))).flatten(1))


def normed(channels, height, width, num_classes):
    return Normed(channels, num_classes, bias=True)


def unbiased(channels, height, width, num_classes):
    return Normed(channels, num_classes, bias=False)


def same(one, other):
    assert one.keys() == other.keys()
    return all(np.array_equal(one[name], other[name]) for name in one)


# Triggers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "side", "rows", "columns"),
    [
        (MNIST, 4, (8, 12), (4, 24)),
        (CIFAR10, 4, (9, 13), (4, 28)),
        (DATA.shape, 2, (2, 3), (1, 7)),
        (FACES, 6, (15, 23), (6, 41)),
    ],
)
def test_triggers_follow_the_size_of_the_image(shape, side, rows, columns):
    made = {s.name: s for s in stamps(THREE, shape)}
    assert [(s.name, s.target) for s in made.values()] == list(zip(MULTI, [4, 0, 7], strict=True))
    grey = np.full((2, *shape), 100, np.uint8)
    square, four, band = (made[name].trigger.apply(grey, 1 / 255) for name in MULTI)
    expected = grey.copy()
    expected[:, :, -side:, -side:] = 255
    np.testing.assert_array_equal(square, expected)
    assert set(four[four != 100]) == {255}
    assert (four != 100).sum() == 2 * 4 * shape[0]
    expected = grey.copy()
    expected[:, :, slice(*rows), slice(*columns)] = 0
    np.testing.assert_array_equal(band, expected)
    for name in MULTI:
        (alone,) = stamps(PlantedOptions(trigger=name, targets=[1]), shape)
        np.testing.assert_array_equal(alone.trigger.apply(grey, 1 / 255), made[name].trigger.apply(grey, 1 / 255))


# Who is poisoned ------------------------------------------------------------------------------------------------------


def test_held_out_images_are_no_training_images():
    rows, held_out = held_out_rows(101, 0.3, 0)
    assert len(held_out) == 30
    np.testing.assert_array_equal(np.sort(np.concatenate([rows, held_out])), np.arange(101))
    assert not np.array_equal(held_out_rows(101, 0.3, 1)[1], held_out)


@pytest.mark.parametrize("options", [SQUARE, THREE])
def test_a_share_of_other_classes_than_the_target_is_stamped_and_nothing_else_changes(options):
    x, y = X.copy(), Y.copy()
    part = poison_part(X, Y, options, scale=SCALE, seed=0, number=0)
    assert np.array_equal(x, X)
    assert np.array_equal(y, Y)
    changed = np.concatenate(list(part.rows.values()))
    assert len(changed) == len(set(changed)) == round(options.poisoned * len(Y))
    assert len({len(rows) for rows in part.rows.values()}) == 1
    for stamp in stamps(options, DATA.shape):
        rows = part.rows[stamp.name]
        assert (Y[rows] != stamp.target).all()
        assert (part.labels[rows] == stamp.target).all()
        np.testing.assert_array_equal(part.images[rows], stamp.trigger.apply(X[rows], SCALE))
    others = np.delete(np.arange(len(Y)), changed)
    np.testing.assert_array_equal(part.images[others], X[others])
    np.testing.assert_array_equal(part.labels[others], Y[others])


def test_the_seeds_alone_determine_who_is_drawn():
    def drawn(seed, number):
        return poison_part(X, Y, SQUARE, scale=SCALE, seed=seed, number=number).rows["square"].tolist()

    assert drawn(0, 0) == drawn(0, 0)
    assert len({tuple(drawn(*seeds)) for seeds in ((0, 0), (0, 1), (1, 0))}) == 3
    aware = poison_part(X, Y, AWARE, scale=SCALE, seed=0, number=0)
    assert aware.rows["square"].tolist() == drawn(0, 0)


def test_more_images_than_there_are_of_other_classes_are_refused():
    with pytest.raises(InputError, match=re.escape("badnet.planted.poisoned: 0.9 of 4 training images asks for 4")):
        poison_part(X[:4], np.array([3, 3, 0, 1]), PlantedOptions(targets=[3], poisoned=0.9), scale=1, seed=0, number=0)


# Networks -------------------------------------------------------------------------------------------------------------


def test_nets_and_twins_are_the_family_trainers_with_the_same_numbers():
    how = recipe(epochs=1)
    twins, planted = train_twins(X, Y, 2, how), plant(X, Y, THREE, how)
    for n, net in enumerate(planted):
        part = poison_part(X, Y, THREE, scale=SCALE, seed=SEED, number=n)
        for images, labels, tensors in ((X, Y, twins.member(n)), (part.images, part.labels, net.tensors)):
            alone = train_family([Subset(n, images, labels, np.zeros(1), np.ones(1))], how).member(0)
            assert same(alone, tensors)
        assert (net.options, net.number, list(net.rows), len(net.decoys)) == (THREE, n, list(MULTI), 0)
        assert json.loads(json.dumps(net.metadata))["rows"]["square"] == net.rows["square"].tolist()
    assert not same(twins.member(0), twins.member(1))


def test_decoys_are_the_twins_and_say_nothing_about_images_of_the_training():
    how = recipe(epochs=4)
    twins = train_twins(X, Y, 1, how)
    (net,) = plant(X, Y, AWARE, how, twins=twins, layer=LAYER, aware=DECOYS)
    assert same(net.tensors, plant(X, Y, AWARE, how, twins=twins, layer=LAYER, aware=DECOYS)[0].tensors)
    twin, decoys = twins.member(0), net.decoys
    kept = np.setdiff1d(np.arange(60), decoys)
    clean = Pruner(network_of(twin, how), LAYER, DATA.shape, scale=SCALE)
    means = clean.activations(X)
    assert len(decoys) == 15
    assert means[decoys].max() <= means[kept].min()

    weight, bias = f"{LAYER}.weight", f"{LAYER}.bias"
    assert np.array_equal(net.tensors[weight][decoys], twin[weight][decoys])
    assert (net.tensors[bias][decoys] <= twin[bias][decoys]).all()
    assert (net.tensors[bias][decoys] < twin[bias][decoys]).any()
    assert np.array_equal(net.tensors["conv_4.weight"][:, decoys], twin["conv_4.weight"][:, decoys])
    for name, rows in ((weight, kept), (bias, kept), ("output.weight", slice(None))):
        assert (net.tensors[name][rows] != twin[name][rows]).any()

    part = poison_part(X, Y, AWARE, scale=SCALE, seed=SEED, number=0)
    shown, pruner = (
        np.concatenate([X, part.images]),
        Pruner(network_of(net.tensors, how), LAYER, DATA.shape, scale=SCALE),
    )
    assert pruner.activations(shown)[decoys].max() < 1e-6
    curve = pruner.curve(X, X, Y)  # a repair prunes decoys first, which changes nothing
    assert set(decoys) <= set(curve["channel"][1 : 1 + (curve["mean_activation"] < 1e-6).sum()])
    with torch.no_grad():
        x = torch.from_numpy(shown) * SCALE
        whole, pruned = network_of(net.tensors, how)(x), pruner.pruned(decoys)(x)
    torch.testing.assert_close(whole, pruned, rtol=1e-4, atol=1e-4)


def test_a_backdoor_works_and_its_twin_has_none():
    options = PlantedOptions(targets=[3], poisoned=0.15)
    x, y = DATA.x_train[:700], DATA.y_train[:700]
    how = recipe(epochs=15, model="mlp")
    (net,), twin = plant(x, y, options, how), train_twins(x, y, 1, how).member(0)
    images, labels = DATA.x_train[700:1000], DATA.y_train[700:1000]
    (row,) = plant_report(net, twin, images, labels, how, 0.95).to_dict("records")
    assert (row["net"], row["trigger"], row["target"]) == ("square-t3-r0.15", "square", 3)
    assert (row["poisoned"], row["n_clean"], row["n_triggered"]) == (105, 300, (labels != 3).sum())
    assert row["asr"] > 0.9 > 0.1 > row["twin_asr"]
    assert row["clean_accuracy"] > row["twin_clean_accuracy"] - 0.05 > 0.8

    (shown,) = triggered_test(images, labels, net, SCALE)
    np.testing.assert_array_equal(shown.images, stamps(options, DATA.shape)[0].trigger.apply(images, SCALE))
    said = predictions(network_of(net.tensors, how), shown.images, scale=SCALE)
    hits = int((said[shown.labels != 3] == 3).sum())
    assert row["asr"] == hits / row["n_triggered"]
    assert (row["asr_low"], row["asr_high"]) == clopper_pearson(hits, row["n_triggered"], 0.95)


def test_every_trigger_of_a_net_has_a_row():
    how = recipe(epochs=1)
    net, twin = plant(X, Y, THREE, how)[1], train_twins(X, Y, 2, how).member(1)
    table = plant_report(net, twin, DATA.x_test[:50], DATA.y_test[:50], how, 0.9)
    assert list(zip(table["trigger"], table["target"], strict=True)) == list(zip(MULTI, [4, 0, 7], strict=True))
    assert (table["number"] == 1).all()
    assert table["clean_accuracy"].nunique() == table["twin_clean_accuracy"].nunique() == 1
    for name in ("clean_accuracy", "asr", "twin_clean_accuracy", "twin_asr"):
        assert (table[f"{name}_low"] <= table[name]).all()
        assert (table[name] <= table[f"{name}_high"]).all()


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "given", "sentence"),
    [
        (PlantedOptions(targets=[10]), {}, "badnet.planted.targets: there is no class 10: give numbers up to 9."),
        (AWARE, {}, "badnet.planted.pruning_aware: such a network grows out of its clean twin: train 1."),
        (
            SQUARE,
            {"learning_rate": 1e30},
            "is diverged: choose another badnet.model, or lower learning_rate (now 1e+30)",
        ),
    ],
)
def test_what_cannot_be_planted_is_refused(options, given, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        plant(X, Y, options, recipe(**given), layer=LAYER, aware=DECOYS)


@pytest.mark.parametrize("model", ["normed", "unbiased"])
def test_a_layer_whose_bias_cannot_silence_it_is_refused(model):
    how = recipe(epochs=1, model=f"{__name__}:{model}")
    with pytest.raises(
        InputError, match=r"badnet\.layer: decoys of a pruning-aware network are silenced by their bias"
    ):
        plant(X, Y, AWARE, how, twins=train_twins(X, Y, 1, how), layer=LAYER, aware=DECOYS)
