"""Generators: their shapes, many side by side against each alone, training against torch.optim, what they make."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from mithridate import device
from mithridate.adversarial.generators import (
    Generators,
    generate,
    load_generators,
    save_generators,
    step_count,
    train_generators,
)
from mithridate.adversarial.gradient_attacks import into_ball
from mithridate.adversarial.losses import make_loss
from mithridate.artefacts import write_safetensors
from mithridate.data.digits import digits28
from mithridate.errors import InputError
from mithridate.models import dgn_dense, generator
from mithridate.models.registry import initialise
from mithridate.options.dgn import GeneratorOptions
from mithridate.progress import Progress
from mithridate.repair.predict import predictions
from mithridate.streams import Stream
from mithridate.training.stack import Grouped, GroupedConvTranspose, Single, keep_channels_last
from tests.unit.making import refused

SHAPE, CLASSES = (1, 28, 28), 3
OPTIONS = GeneratorOptions(custom_loss="nce", num_epochs=2, batch_size=8, learning_rate=1e-3)
HOW = {"name": "nce", "seed": 0, "num_classes": CLASSES, "together": False}


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def data(n: int = 50, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Grey noise; of the three classes 20, 15 and 15 images of 50."""
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])[np.arange(n) % 10]
    return Stream("generator images").uniform(n, *shape).astype(np.float32), labels


def halved(classes: torch.Tensor):
    """The loss of half the brightness and, class by class, a little more."""
    aim = 0.5 + 0.1 * classes.view(-1, 1, 1, 1, 1)
    return lambda x, made: (aim * x - made).square().flatten(1).mean(1)


def train(options: GeneratorOptions = OPTIONS, images: np.ndarray | None = None, loss_of=halved, **how) -> Generators:
    own, labels = data()
    return train_generators(own if images is None else images, labels, loss_of, options, **{**HOW, **how})


def changed(**options) -> GeneratorOptions:
    return OPTIONS.model_copy(update=options)


def apart(one: Generators, other: Generators, c: int | slice = slice(None)) -> float:
    """The largest difference of parameters of classes c."""
    return max(float(np.abs(array[c] - other.tensors[name][c]).max()) for name, array in one.tensors.items())


@pytest.fixture(scope="module")
def made(_prepared) -> Generators:
    return train()


# Networks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "parameters"), [((1, 28, 28), 175_009), ((3, 32, 32), 553_667)])
def test_a_generator_turns_images_into_images(shape, parameters):
    network = initialise(generator.build, shape, 0, Stream("generator"))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    x = torch.from_numpy(data(4, shape)[0])
    for mode in (True, False):
        with torch.no_grad():
            found = network.train(mode)(x)
        assert found.shape == x.shape
        assert 0 < found.min() < found.max() < 1  # a sigmoid's
    for module in network:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            inputs, outputs = (module.weight.shape[0], module.weight.shape[1])
            limit = np.sqrt(6 / ((inputs + outputs) * module.weight[0, 0].numel()))
            assert 0.8 * limit < module.weight.abs().max() <= limit
            assert not module.bias.any()


@pytest.mark.parametrize("size", [(28, 32), (32, 28), (27, 27), (8, 8), (224, 224)])
def test_other_sizes_are_refused(size):
    sentence = f"images of {size[0]} x {size[1]} .*: generators are defined for 28 x 28 and 32 x 32"
    with pytest.raises(InputError, match=sentence):
        generator.build(1, *size)


def transposed(t: int) -> nn.Sequential:
    """Every kind of transposed convolution, with BatchNorm, of other numbers for each t."""
    with torch.random.fork_rng():
        torch.manual_seed(t)
        return nn.Sequential(
            nn.ConvTranspose2d(2, 5, 3, stride=2, bias=False),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.ConvTranspose2d(5, 4, (2, 3), stride=(1, 2), padding=1),
            nn.BatchNorm2d(4, momentum=0.3),
            nn.ConvTranspose2d(4, 3, 2, dilation=2),
            nn.Sigmoid(),
        )


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (transposed, (2, 4, 5)),
        (lambda t: initialise(generator.build, (1, 28, 28), 0, Stream("grouped", t)), (1, 28, 28)),
        (lambda t: initialise(generator.build, (3, 32, 32), 0, Stream("grouped", t)), (3, 32, 32)),
    ],
    ids=["transposed", "28", "32"],
)
@pytest.mark.parametrize("layout", [True, False])
def test_generators_side_by_side_are_each_alone(build, shape, layout):
    members = [build(t).train() for t in range(3)]
    stack = Grouped(members[0], 3, channels_last=layout).train()
    assert any(isinstance(layer, GroupedConvTranspose) for layer in stack.layers)
    for t, member in enumerate(members):
        stack.load(t, member)
    x = torch.from_numpy(Stream("grouped").uniform(3, 6, *shape)).float()
    for _ in range(2):  # running statistics move twice
        found = stack(x)
        expected = [member(own) for member, own in zip(members, x, strict=True)]
    assert found.shape == (3, 6, *expected[0].shape[1:])
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-5)
    weight = torch.from_numpy(Stream("weights").uniform(*found.shape)).float()
    (found * weight).sum().backward()
    sum((own * part).sum() for own, part in zip(expected, weight, strict=True)).backward()
    for t, member in enumerate(members):
        slopes = {name: p.grad for name, p in member.named_parameters()}
        size = max(slope.abs().max().item() for slope in slopes.values())
        for name, tensor in stack.member_tensors():
            if name in slopes:
                torch.testing.assert_close(tensor.grad[t], slopes[name], rtol=1e-3, atol=1e-4 * size)
        for name, tensor in stack.state(t).items():
            torch.testing.assert_close(tensor, member.state_dict()[name], rtol=1e-4, atol=1e-6)
    stack.eval()
    with torch.no_grad():
        single = [Single(deepcopy(member), layout).eval()(own[None]) for member, own in zip(members, x, strict=True)]
        torch.testing.assert_close(stack(x), torch.cat(single), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_grouped_is_refused():
    for layer in (nn.ConvTranspose2d(2, 2, 3, stride=2, output_padding=1), nn.ConvTranspose2d(2, 2, 3, groups=2)):
        with pytest.raises(InputError, match="grouped does not know the layer ConvTranspose2d"):
            Grouped(nn.Sequential(layer), 2, channels_last=True)


# Training -------------------------------------------------------------------------------------------------------------


def by_hand(images: np.ndarray, labels: np.ndarray, c: int, options: GeneratorOptions, steps: int) -> nn.Module:
    """Class c's generator, by torch.optim."""
    network = keep_channels_last(initialise(generator.build, SHAPE, 0, Stream("dgn init", 0, "nce", c)).train())
    rows, count = np.flatnonzero(labels == c), steps * options.batch_size
    passes = Stream("dgn order", 0, "nce", c).permutations(-(-count // len(rows)), len(rows)).ravel()
    adam = torch.optim.Adam(
        network.parameters(),
        lr=options.learning_rate,
        betas=(options.momentum, 0.999),
        weight_decay=options.weight_decay,
    )
    falls, loss = torch.optim.lr_scheduler.StepLR(adam, options.decay_step, options.decay_rate), halved(torch.tensor(c))
    for batch in passes[:count].reshape(steps, -1):
        x = torch.from_numpy(images[rows[batch]])[None]
        adam.zero_grad()
        loss(x, network(x[0])[None]).sum().backward()
        adam.step()
        falls.step()
    return network


def test_training_is_adam_on_named_orders():
    images, labels = data()
    for c, more in ((0, {}), (2, {"momentum": 0.3, "weight_decay": 0.1, "decay_step": 2, "decay_rate": 0.3})):
        options, start = changed(**more), initialise(generator.build, SHAPE, 0, Stream("dgn init", 0, "nce", c))
        expected = by_hand(images, labels, c, options, step_count(labels, CLASSES, options)).state_dict()
        found = train(options)
        for name, array in found.tensors.items():
            value, before = expected[name].numpy(), start.state_dict()[name].numpy()
            moved = np.abs(value - before).mean()
            assert np.abs(array[c] - value).mean() < 1e-3 * moved, name


def test_together_is_one_after_another_but_for_rounding(made):
    together = train(together=True)
    for name, array in made.tensors.items():
        assert np.abs(array - together.tensors[name]).mean() < 1e-5
    pd.testing.assert_frame_equal(made.history, together.history, rtol=1e-4)
    images, labels = data()
    np.testing.assert_allclose(generate(made, images, labels), generate(together, images, labels), atol=1e-4)
    assert apart(together, train(together=True)) == 0


def test_a_generator_depends_on_its_own_classs_images_alone(made):
    images, labels = data()
    for c in range(CLASSES):
        other = images.copy()
        other[labels != c] = Stream("garbage", c).uniform(*other[labels != c].shape)
        found = train(images=other)
        assert all(np.array_equal(found.tensors[name][c], array[c]) for name, array in made.tensors.items())
        assert found.history.query("`class` == @c").equals(made.history.query("`class` == @c"))
        assert all(apart(made, found, d) > 1e-4 for d in range(CLASSES) if d != c)


def test_each_seed_name_and_class_has_numbers_of_its_own(made):
    assert apart(made, train()) == 0
    for other in ({"seed": 1}, {"name": "lrp"}):
        assert all(apart(made, train(**other), c) > 0.01 for c in range(CLASSES))
    alike = np.repeat(data(10)[0][:1], 50, 0)  # one image, so that all that differs is the initialisation

    def same(classes):
        return halved(torch.zeros_like(classes))

    found = train(images=alike, loss_of=same)
    for name, array in found.tensors.items():
        if name in ("0.weight", "9.weight", "15.weight"):
            assert min(np.abs(array[a] - array[b]).max() for a, b in ((0, 1), (0, 2), (1, 2))) > 0.01


def test_every_option_of_the_optimiser_acts(made):
    learnt = [name for name in made.tensors if "running" not in name]

    def moved(one, other):
        return max(np.abs(one.tensors[name] - other.tensors[name]).max() for name in learnt)

    stopping = {"decay_step": 1, "decay_rate": 1e-9}
    one, many = train(changed(num_epochs=1, batch_size=20, **stopping)), train(changed(batch_size=20, **stopping))
    assert one.history["step"].max() == 0 < many.history["step"].max()
    assert moved(one, many) < 1e-9
    assert moved(one, train(changed(batch_size=20))) > 1e-4
    late = changed(decay_step=3, decay_rate=1e-9)
    assert moved(made, train(late)) > 1e-4
    assert moved(made, train(changed(decay_step=5, decay_rate=1e-9))) == 0  # after all five steps
    for option in ({"momentum": 0.0}, {"weight_decay": 1.0}, {"learning_rate": 3e-4}):
        assert moved(made, train(changed(**option))) > 1e-4


def test_the_history_has_each_noted_step_of_every_class(made):
    assert made.history.columns.tolist() == ["class", "step", "loss"]
    assert made.history["class"].tolist() == [c for c in range(CLASSES) for _ in range(5)]
    assert made.history["step"].tolist() == [*range(5)] * 3
    ends = made.history.groupby("class")["loss"].agg(["first", "last"])
    assert (ends["last"] < ends["first"]).all()
    images, labels = data()
    first = initialise(generator.build, SHAPE, 0, Stream("dgn init", 0, "nce", 1)).train()
    rows = np.flatnonzero(labels == 1)
    x = torch.from_numpy(images[rows[Stream("dgn order", 0, "nce", 1).permutations(1, 15)[0, :8]]])[None]
    with torch.no_grad():
        loss = halved(torch.tensor(1))(x, first(x[0])[None]).item()
    assert made.history.query("`class` == 1")["loss"].iloc[0] == pytest.approx(loss, rel=1e-5)
    lines = []
    progress = Progress("steps", 3 * 40, lines.append)
    long = train(changed(num_epochs=4, batch_size=2), together=True, progress=progress)
    assert progress.done == 3 * 40
    for c in range(CLASSES):
        assert long.history["step"][long.history["class"] == c].tolist() == [*range(0, 40, 2), 39]


def test_all_generators_take_as_many_steps_as_the_largest_class_needs():
    labels = np.repeat([0, 1, 2], [7, 101, 3])
    for epochs, batch, steps in ((1, 100, 2), (1, 101, 1), (3, 10, 31), (10, 10, 101)):
        options = GeneratorOptions(custom_loss="nce", num_epochs=epochs, batch_size=batch)
        assert step_count(labels, 3, options) == steps
        assert step_count(labels, 5, options) == steps


def test_what_cannot_be_trained_is_refused():
    images, labels = data()
    with pytest.raises(InputError, match="class 3 has no training images to train a generator on"):
        train(num_classes=4)
    for together in (True, False):
        with pytest.raises(InputError, match=r"training of nce diverged: lower its learning_rate \(now 1e\+30\)"):
            train(changed(learning_rate=1e30), together=together)
    bad = images.copy()
    bad[np.flatnonzero(labels == 2), 0, 3, 3] = np.nan
    with pytest.raises(InputError, match="diverged"):
        train(images=bad)
    with pytest.raises(InputError, match="28 x 28 and 32 x 32"):
        train(images=images[:, :, :20])


# Images ---------------------------------------------------------------------------------------------------------------


def test_an_image_is_generated_whatever_lies_beside_it(made):
    images, labels = data(230)
    found = generate(made, images, labels)
    assert (found.dtype, found.shape) == (np.float32, images.shape)
    assert 0 <= found.min() < found.max() <= 1
    order = Stream("shuffled").permutations(1, 230)[0]
    np.testing.assert_array_equal(generate(made, images[order], labels[order]), found[order])
    np.testing.assert_array_equal(generate(made, images[7:8], labels[7:8]), found[7:8])
    other = images.copy()
    other[50:] = 0
    np.testing.assert_array_equal(generate(made, other, labels)[:50], found[:50])
    network = generator.build(*SHAPE)
    for c in range(CLASSES):
        network.load_state_dict({k: torch.from_numpy(v[c]) for k, v in made.tensors.items()}, strict=False)
        with torch.no_grad():
            expected = network.eval()(torch.from_numpy(images[labels == c])).numpy()
        np.testing.assert_allclose(found[labels == c], expected, atol=1e-6)
    progress = Progress("images", 230, lambda _: None)
    generate(made, images, labels, progress=progress)
    assert progress.done == 230


def test_a_wrong_class_has_another_generator(made):
    images, labels = data(30)
    found, wrong = (generate(made, images, classes) for classes in (labels, (labels + 1) % CLASSES))
    assert (np.abs(found - wrong).max((1, 2, 3)) > 1e-3).all()
    swapped = Generators({name: np.roll(array, -1, 0) for name, array in made.tensors.items()}, made.history)
    np.testing.assert_array_equal(generate(swapped, images, labels), wrong)


def test_files_come_back_bit_for_bit_and_foreign_ones_are_refused(tmp_path, made):
    path, (images, labels) = tmp_path / "generators.safetensors", data(9)
    refused(load_generators, path, "does not exist")
    save_generators(path, made, {"seconds": 1.5})
    found = load_generators(path)
    assert {name: array.tobytes() for name, array in found.tensors.items()} == {
        name: array.tobytes() for name, array in made.tensors.items()
    }
    np.testing.assert_array_equal(generate(found, images, labels), generate(made, images, labels))
    content = path.read_bytes()
    for part in (b"", b"no generators" * 99, content[:500], content[:-1]):
        path.write_bytes(part)
        refused(load_generators, path, "is not a whole safetensors file")
    write_safetensors(path, made.tensors, {"networks": [""]}, {})
    refused(load_generators, path, "holds no generators: delete it and make it again")
    lacking = {name: array for name, array in made.tensors.items() if name != "9.weight"}
    for tensors in (lacking, made.tensors | {"16.weight": np.zeros((3, 2))}):
        write_safetensors(path, tensors, {"generators": True}, {})
        with pytest.raises(InputError, match="do not fit the model"):
            generate(load_generators(path), images, labels)
    with pytest.raises(InputError, match="do not fit the model"):
        generate(made, data(2, (3, 28, 28))[0], labels[:2])


def test_generators_fool_the_target_that_they_are_trained_against():
    digits, classes = digits28(), 4
    (x, y), (test, truth) = (
        (images[labels < classes].astype(np.float32) / np.float32(255), labels[labels < classes])
        for images, labels in ((digits.x_train, digits.y_train), (digits.x_test, digits.y_test))
    )
    target = initialise(dgn_dense.build, SHAPE, classes, Stream("target"))
    adam = torch.optim.Adam(target.parameters(), lr=3e-3)
    for _ in range(25):
        adam.zero_grad()
        nn.functional.cross_entropy(target(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        adam.step()
    options, how = changed(num_epochs=5, batch_size=16, learning_rate=2e-3), {**HOW, "num_classes": classes}
    made = train_generators(x, y, lambda classes: make_loss(options, target, classes, 0.3), options, **how)

    def accuracy(images):
        return (predictions(target, images, scale=1.0) == truth).mean()

    ends = made.history.groupby("class")["loss"].agg(["first", "last"])
    assert (ends["last"] < ends["first"] - 0.5).all()
    found = generate(made, test, truth)
    assert accuracy(test) > 0.75
    assert accuracy(into_ball(test, found, 0.3)) < 0.4
    assert accuracy(found) < 0.1
