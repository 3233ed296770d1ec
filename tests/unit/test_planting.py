"""Planted BadNets: who is poisoned and how, equal streams of net and twin, decoys, and a backdoor that works."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from mithridate import device
from mithridate.data.digits import digits
from mithridate.errors import InputError
from mithridate.options.badnet import MULTI, FineTuningOptions, PlantedOptions, PruningAwareOptions
from mithridate.options.training import plain_adam
from mithridate.progress import Progress
from mithridate.repair.goodnet import clean_metrics, triggered_metrics
from mithridate.repair.networks import Kind, build, state
from mithridate.repair.planting import Planted, held_out_rows, plant, planted_trigger, poison_part, stamps, train_twin
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


def network(made: Planted, how: Recipe) -> nn.Module:
    return build(Kind(how.model, how.shape, how.num_classes), made.tensors)


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
    how, twins = recipe(epochs=1), []
    for n in range(2):
        progress = Progress("networks", 2, lambda line: None)
        twins.append(train_twin(X, Y, n, how, progress=progress))
        net = plant(X, Y, THREE, n, how, progress=progress)
        part = poison_part(X, Y, THREE, scale=SCALE, seed=SEED, number=n)
        for images, labels, made in ((X, Y, twins[n]), (part.images, part.labels, net)):
            alone = train_family([Subset(n, images, labels, np.zeros(1), np.ones(1))], how).member(0)
            assert same(alone, made.tensors)
            assert (made.decoys.dtype, len(made.decoys)) == (np.int64, 0)
        assert list(net.rows) == list(MULTI)
        assert all(np.array_equal(net.rows[name], part.rows[name]) for name in MULTI)
        assert (twins[n].rows, progress.done) == ({}, 2)
        assert not same(twins[n].tensors, net.tensors)
    assert not same(twins[0].tensors, twins[1].tensors)


def test_checkpoints_change_nothing(tmp_path):
    how = recipe(epochs=1)
    for make in (lambda **more: train_twin(X, Y, 0, how, **more), lambda **more: plant(X, Y, SQUARE, 0, how, **more)):
        alone = make().tensors
        assert same(alone, make(checkpoints=tmp_path).tensors)
        assert same(alone, make(checkpoints=tmp_path).tensors)  # as found there


def test_decoys_are_the_twins_and_say_nothing_about_images_of_the_training():
    how = recipe(epochs=4)
    made = train_twin(X, Y, 0, how)
    grown = {"twin": network(made, how), "layer": LAYER, "aware": DECOYS}
    net = plant(X, Y, AWARE, 0, how, **grown)
    assert same(net.tensors, plant(X, Y, AWARE, 0, how, **grown).tensors)
    assert not same(net.tensors, plant(X, Y, AWARE, 1, how, **grown).tensors)
    assert same(state(grown["twin"]), made.tensors)  # which is left as it was
    twin, decoys = made.tensors, net.decoys
    kept = np.setdiff1d(np.arange(60), decoys)
    means = Pruner(grown["twin"], LAYER, DATA.shape, scale=SCALE).activations(X)
    assert len(decoys) == 15
    assert means[decoys].max() <= means[kept].min()
    assert (np.diff(means[decoys]) >= 0).all()

    weight, bias = f"{LAYER}.weight", f"{LAYER}.bias"
    assert np.array_equal(net.tensors[weight][decoys], twin[weight][decoys])
    assert (net.tensors[bias][decoys] <= twin[bias][decoys]).all()
    assert (net.tensors[bias][decoys] < twin[bias][decoys]).any()
    assert np.array_equal(net.tensors["conv_4.weight"][:, decoys], twin["conv_4.weight"][:, decoys])
    for name, rows in ((weight, kept), (bias, kept), ("output.weight", slice(None))):
        assert (net.tensors[name][rows] != twin[name][rows]).any()

    part = poison_part(X, Y, AWARE, scale=SCALE, seed=SEED, number=0)
    assert np.array_equal(part.rows["square"], net.rows["square"])
    aware, shown = network(net, how), np.concatenate([X, part.images])
    pruner = Pruner(aware, LAYER, DATA.shape, scale=SCALE)
    assert pruner.activations(shown)[decoys].max() < 1e-6
    curve = pruner.curve(X, X, Y)  # a repair prunes decoys first, which changes nothing
    assert set(decoys) <= set(curve["channel"][1 : 1 + (curve["mean_activation"] < 1e-6).sum()])
    with torch.no_grad():
        x = torch.from_numpy(shown) * SCALE
        whole, pruned = aware(x), pruner.pruned(decoys)(x)
    torch.testing.assert_close(whole, pruned, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [PlantedOptions(targets=[3], poisoned=0.15), THREE], ids=["square", "multi"])
def test_a_backdoor_works_and_its_twin_has_none(options):
    x, y = DATA.x_train[:700], DATA.y_train[:700]
    how = recipe(epochs=15, model="mlp")
    made = plant(x, y, options, 0, how)
    assert sum(map(len, made.rows.values())) == round(options.poisoned * 700)
    net, twin = network(made, how), network(train_twin(x, y, 0, how), how)
    images, labels = DATA.x_train[700:1000], DATA.y_train[700:1000]

    def accuracy(asked):
        return clean_metrics(predictions(asked, images, scale=SCALE), labels, 10, 0.95)["clean_accuracy"]

    assert accuracy(net) > accuracy(twin) - 0.05 > 0.8
    for stamp in stamps(options, DATA.shape):
        shown = planted_trigger(stamp.name, DATA.shape).apply(images, SCALE)
        np.testing.assert_array_equal(shown, stamp.trigger.apply(images, SCALE))
        rates = [
            triggered_metrics(predictions(n, shown, scale=SCALE), labels, stamp.target, 10, 0.95) for n in (net, twin)
        ]
        assert rates[0]["n_triggered"] == (labels != stamp.target).sum()
        assert rates[0]["asr"] > 0.9 > 0.1 > rates[1]["asr"]


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "given", "sentence"),
    [
        (PlantedOptions(targets=[10]), {}, "badnet.planted.targets: there is no class 10: give numbers up to 9."),
        (AWARE, {}, "badnet.planted.pruning_aware: such a network grows out of its clean twin: give that."),
        (
            SQUARE,
            {"learning_rate": 1e30},
            "is diverged: choose another badnet.model, or lower learning_rate (now 1e+30)",
        ),
    ],
)
def test_what_cannot_be_planted_is_refused(options, given, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        plant(X, Y, options, 0, recipe(**given), layer=LAYER, aware=DECOYS)


@pytest.mark.parametrize("model", ["normed", "unbiased"])
def test_a_layer_whose_bias_cannot_silence_it_is_refused(model):
    how = recipe(epochs=1, model=f"{__name__}:{model}")
    twin = network(train_twin(X, Y, 0, how), how)
    with pytest.raises(
        InputError, match=r"badnet\.layer: decoys of a pruning-aware network are silenced by their bias"
    ):
        plant(X, Y, AWARE, 0, how, twin=twin, layer=LAYER, aware=DECOYS)
