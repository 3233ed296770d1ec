"""The architectures, alone and side by side."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mithridate import device
from mithridate.errors import InputError
from mithridate.models.dgn_conv import LEAST
from mithridate.models.registry import NAMES, builder, initialise
from mithridate.options.training import AugmentationOptions, TrainingOptions
from mithridate.streams import Stream
from mithridate.training.family import Subset, train_family, weight_hash
from mithridate.training.flags import FITTED
from mithridate.training.recipe import resolve
from mithridate.training.stack import Grouped, Single

LOOPED = ("rab_resnet", "resnet20", "deepid")  # whose blocks are modules of their own: they run as a loop
STACKABLE = [name for name in NAMES if name not in LOOPED]
SMALLEST = {"dgn_conv": LEAST}  # rows and columns; the others take 16


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def fitting(name: str, channels: int, height: int, width: int) -> tuple[int, int, int]:
    """The shape, or the smallest that the architecture takes."""
    least = SMALLEST.get(name, 1)
    return channels, max(height, least), max(width, least)


@pytest.mark.parametrize(
    ("shape", "classes", "parameters"),
    [((3, 32, 32), 10, 1_005_642), ((1, 28, 28), 10, 996_042), ((3, 48, 48), 43, 1_012_011)],
    ids=["cifar10", "mnist", "gtsrb"],
)
def test_network_in_network_has_the_papers_number_of_parameters(shape, classes, parameters):
    assert sum(p.numel() for p in builder("nin")(*shape, classes).parameters()) == parameters


def test_network_in_network_has_the_papers_layers():
    layers = builder("nin")(3, 32, 32, 10)
    kinds = [type(layer).__name__ for layer in layers]
    block = ["Conv2d", "BatchNorm2d", "ReLU"] * 3
    assert kinds == [*block, "MaxPool2d", *block, "AvgPool2d", *block, "AdaptiveAvgPool2d", "Flatten", "Linear"]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size[0], c.padding[0]) for c in convolutions] == [
        *[(192, 5, 2), (160, 1, 0), (96, 1, 0)],
        *[(192, 5, 2), (192, 1, 0), (192, 1, 0)],
        *[(192, 3, 1), (192, 1, 0), (192, 1, 0)],
    ]
    pools = [layer for layer in layers if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d)]
    assert [(p.kernel_size, p.stride, p.padding) for p in pools] == [(3, 2, 1)] * 2
    assert pools[1].count_include_pad


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [("dgn_dense", (1, 28, 28), 27_580), ("dgn_conv", (3, 32, 32), 122_570)],
)
def test_the_targets_of_deepcustom_have_the_papers_parameters_and_keras_initialisation(name, shape, parameters):
    network = initialise(builder(name), shape, 10, Stream("glorot"))
    assert sum(p.numel() for p in network.parameters()) == parameters
    for layer in network:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            area = layer.weight[0, 0].numel()
            bound = (6 / (area * (layer.weight.shape[0] + layer.weight.shape[1]))) ** 0.5
            assert 0.9 * bound < layer.weight.abs().max() <= bound
            assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.15)
            assert not layer.bias.any()


def test_the_convolutional_target_of_deepcustom_refuses_images_that_nothing_is_left_of():
    with torch.no_grad():
        assert builder("dgn_conv")(1, LEAST, LEAST + 3, 4)(torch.zeros(1, 1, LEAST, LEAST + 3)).shape == (1, 4)
    with pytest.raises(InputError, match="17 x 32 are too small"):
        builder("dgn_conv")(3, LEAST - 1, 32, 10)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 16, 20)])
@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_takes_any_shape_and_is_drawn_from_its_stream(name, shape):
    shape = fitting(name, *shape)
    nets = [initialise(builder(name), shape, 7, Stream("init", seed)).eval() for seed in (0, 0, 1)]
    x = torch.from_numpy(Stream("x").uniform(2, *shape).astype(np.float32))
    with torch.no_grad():
        first, same, other = (net(x) for net in nets)
    assert first.shape == (2, 7)
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("name", STACKABLE)
def test_members_side_by_side_compute_what_each_computes_alone(name, channels_last):
    shape, width, batch = fitting(name, 2, 16, 16), 3, 5
    members = [initialise(builder(name), shape, 4, Stream("init", slot)) for slot in range(width)]
    x = torch.from_numpy(Stream("x").uniform(width, batch, *shape).astype(np.float32))
    grouped = Grouped(members[0], width, channels_last).train()
    alone = []
    for slot, member in enumerate(members):
        grouped.load(slot, member)
        single = Single(initialise(builder(name), shape, 4, Stream("template")), channels_last).train()
        single.load(0, member)
        alone.append(single)
    with torch.no_grad():
        native = grouped(x)
        expected = torch.cat([single(x[slot : slot + 1]) for slot, single in enumerate(alone)])
    torch.testing.assert_close(native, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(expected[0], expected[1], atol=1e-2)
    for slot, single in enumerate(alone):  # the running statistics too, under the member network's own names
        state = grouped.state(slot)
        assert state.keys() == single.state(0).keys() <= members[slot].state_dict().keys()
        for tensor_name, tensor in single.state(0).items():
            torch.testing.assert_close(state[tensor_name], tensor, msg=f"{slot} {tensor_name}")


@pytest.mark.parametrize("name", STACKABLE)
def test_a_mask_of_all_images_is_no_mask(name):
    shape, width, batch = fitting(name, 2, 16, 16), 2, 6
    x = torch.from_numpy(Stream("x").uniform(width, batch, *shape).astype(np.float32))
    results = []
    for mask in (torch.ones(width, batch, dtype=torch.bool), None):
        grouped = Grouped(initialise(builder(name), shape, 4, Stream("init")), width, True).train()
        with torch.no_grad():
            results.append({"logits": grouped(x, mask), **grouped.state(1)})
    torch.testing.assert_close(*results)


def test_members_of_network_in_network_are_isolated_in_bf16():
    """One step of the published recipe, at the published precision, on two tiny subsets."""
    augmentation = AugmentationOptions(crop_padding=4, flip=True, rotation=0, scaling=0)
    options = TrainingOptions(
        steps=1, batch_size=2, warmup=0, strategy="loop", precision="bf16", augmentation=augmentation
    )
    recipe = resolve(options, model="nin", shape=(3, 16, 16), num_classes=10, scale=1 / 255, seed=0, device="cpu")

    def subset(number: int, size: int) -> Subset:
        images = (Stream("nin", number, size).uniform(size, 3, 16, 16) * 256).astype(np.uint8)
        return Subset(number, images, np.arange(size) % 10, np.full(3, 0.5), np.full(3, 0.25))

    clean = train_family([subset(0, 3), subset(1, 4)], recipe)
    poisoned = train_family([replace(subset(0, 9), mean=np.zeros(3)), subset(1, 4)], recipe)
    assert clean.flags.tolist() == [FITTED, FITTED]
    assert weight_hash(clean.member(0)) != weight_hash(poisoned.member(0))
    assert weight_hash(clean.member(1)) == weight_hash(poisoned.member(1))
    start = initialise(builder("nin"), (3, 16, 16), 10, Stream("init", 0, 1, 0)).state_dict()
    moved = [name for name, tensor in clean.member(1).items() if not np.array_equal(tensor, start[name].numpy())]
    assert len(moved) == len(clean.tensors)
