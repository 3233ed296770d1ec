"""The networks of randomized smoothing: published sizes, and what the attack's Hessian products need of them."""

import pytest
import torch
from torch import nn

from mithridate import device
from mithridate.models import resnet20, smoothing_digits, smoothing_mnist
from mithridate.models.registry import initialise
from mithridate.streams import Stream
from mithridate.training.stack import Grouped, Single


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("build", "shape", "classes", "number"),
    [
        (smoothing_mnist.build, (1, 28, 28), 10, 431_080),
        (resnet20.build, (3, 32, 32), 10, 273_066),
        (resnet20.build, (3, 32, 32), 43, 273_066 + 33 * 65),
        (smoothing_digits.build, (1, 8, 8), 10, 160 + 4_640 + 8_256 + 650),
    ],
)
def test_networks_have_their_number_of_parameters(build, shape, classes, number):
    network = build(*shape, classes)
    assert parameters(network) == number
    assert network(torch.zeros(2, *shape)).shape == (2, classes)


def test_resnet20_has_the_published_layers():
    network = resnet20.build(3, 32, 32, 10)
    weighted = [m for m in network.modules() if isinstance(m, nn.Linear) or getattr(m, "kernel_size", None) == (3, 3)]
    assert len(weighted) == 20
    shortcuts = [m for m in network.modules() if getattr(m, "kernel_size", None) == (1, 1)]
    assert [(m.in_channels, m.out_channels, m.stride) for m in shortcuts] == [(16, 32, (2, 2)), (32, 64, (2, 2))]
    assert all(m.bias is not None for m in network.modules() if isinstance(m, nn.Conv2d))
    blocks = [m for m in network if isinstance(m, resnet20.Block)]
    assert [b.conv_1.stride[0] for b in blocks] == [1, 1, 1, 2, 1, 1, 2, 1, 1]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 19


@pytest.mark.parametrize("build", [smoothing_mnist.build, smoothing_digits.build])
def test_networks_without_blocks_run_side_by_side(build):
    shape, width = (1, 16, 16), 2
    members = [initialise(build, shape, 4, Stream("init", slot)) for slot in range(width)]
    x = torch.from_numpy(Stream("x").uniform(width, 3, *shape)).float()
    grouped = Grouped(members[0], width, True)
    for slot, member in enumerate(members):
        grouped.load(slot, member)
    with torch.no_grad():
        alone = torch.cat([Single(member, False)(x[slot : slot + 1]) for slot, member in enumerate(members)])
        torch.testing.assert_close(grouped(x), alone, atol=1e-5, rtol=1e-5)


def test_batch_norm_of_resnet20_is_trained_and_evaluated_on_its_running_statistics():
    network = initialise(resnet20.build, (3, 16, 16), 4, Stream("init"))
    x = torch.from_numpy(Stream("x").uniform(8, 3, 16, 16)).float()
    with torch.no_grad():
        before = network.eval()(x)
        network.train()(x)
        moved = network.eval()(x)
        assert not torch.allclose(before, moved)
        torch.testing.assert_close(network(x[:1]), moved[:1], atol=1e-5, rtol=1e-4)  # no image depends on the others
