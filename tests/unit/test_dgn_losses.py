"""The losses of generators: the formulas in NumPy, generators side by side, what stays frozen."""

import numpy as np
import pytest
import torch
from torch import nn

from mithridate import device
from mithridate.adversarial.losses import make_loss
from mithridate.adversarial.relevance import relevant_pixels
from mithridate.adversarial.suspicious import suspicious_units
from mithridate.errors import InputError
from mithridate.options.dgn import GeneratorOptions
from mithridate.streams import Stream

SHAPE, CLASSES, EPSILON = (2, 6, 6), 4, 0.3
LOSSES = ("lrp", "nce", "suspiciousness")
RELEVANT = relevant_pixels(Stream("relevance").uniform(CLASSES, *SHAPE), 7)


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def target():
    relu = nn.ReLU(inplace=True)
    layers = [nn.Conv2d(2, 3, 3), relu, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 5), relu, nn.Linear(5, 6), relu]
    network = nn.Sequential(*layers, nn.Linear(6, CLASSES))
    for number, parameter in enumerate(network.parameters()):
        parameter.data = torch.from_numpy(Stream("loss net", number).uniform(*parameter.shape) - 0.5).float()
    return network


SUSPICIOUS = suspicious_units(
    {name: Stream(name).uniform(CLASSES, n) for name, n in (("conv_1", 3), ("dense_1", 5), ("dense_2", 6))}, 2
)


def options(loss, **how):
    return GeneratorOptions(custom_loss=loss, **how)


def loss_of(chosen, classes, network=None):
    masks = {"relevant": RELEVANT, "suspicious": SUSPICIOUS}
    return make_loss(chosen, network or target(), torch.tensor(classes), EPSILON, **masks)


def batch(members, size=5):
    values = [Stream(name).uniform(members, size, *SHAPE).astype(np.float32) for name in ("x", "generated")]
    return torch.from_numpy(values[0]), torch.from_numpy(values[1]).requires_grad_()


def outputs(x):
    """Pre-activations by layer, [B, units, neurons], and logits of the target, in float64."""
    found, x = {}, torch.from_numpy(x).double()
    with torch.no_grad():
        for place, layer in enumerate(target().double()):
            x = layer(x.clone())
            if name := {0: "conv_1", 4: "dense_1", 6: "dense_2"}.get(place):
                found[name] = x.numpy().reshape(*x.shape[:2], -1).copy()
    return found, x.numpy()


def lrp_by_hand(x, made, c, alpha):
    parts = {True: [], False: []}
    for one, other in zip(x, made, strict=True):
        for place in np.ndindex(*SHAPE):
            kind = bool(RELEVANT[c][place])
            parts[kind].append((one[place] + (-EPSILON if kind else EPSILON) - other[place]) ** 2)
    return alpha * np.mean(parts[True]) + (1 - alpha) * np.mean(parts[False])


def nce_by_hand(x, made, c):
    _, logits = outputs(made)
    entropy = np.log(np.exp(logits).sum(1)) - logits[:, c]
    return ((made - x) ** 2).mean() - entropy.mean()


def suspiciousness_by_hand(x, made, c, alpha, gamma):
    before, after = outputs(x)[0], outputs(made)[0]
    total = 0.0
    for layer, mask in SUSPICIOUS.items():
        for unit, suspicious in enumerate(mask[c]):
            change = before[layer][:, unit] - after[layer][:, unit]  # [B, neurons]
            total += change.mean() / 2 if suspicious else gamma * np.abs(change).mean()
    return alpha * total + (1 - alpha) * ((made - x) ** 2).mean()


def test_the_losses_are_the_formulas():
    classes = [2, 0, 2]
    x, generated = batch(3)
    rows = [(a, b, c) for a, b, c in zip(x.double().numpy(), generated.detach().double().numpy(), classes, strict=True)]
    for chosen, by_hand in (
        (options("lrp"), lambda *row: lrp_by_hand(*row, 0.5)),
        (options("lrp", custom_loss_constant=0.9), lambda *row: lrp_by_hand(*row, 0.9)),
        (options("nce"), nce_by_hand),
        (options("suspiciousness"), lambda *row: suspiciousness_by_hand(*row, 0.8, 0.5)),
        (
            options("suspiciousness", custom_loss_constant=0.9, gamma=0.01),
            lambda *row: suspiciousness_by_hand(*row, 0.9, 0.01),
        ),
    ):
        found = loss_of(chosen, classes)(x, generated)
        assert found.shape == (3,)
        np.testing.assert_allclose(found.detach().numpy(), [by_hand(*row) for row in rows], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_generators_gradient_is_the_same_alone_and_side_by_side(loss):
    classes = [0, 1, 2, 3]
    x, generated = batch(4)
    loss_of(options(loss), classes)(x, generated).sum().backward()
    for g, c in enumerate(classes):
        own = generated.detach()[g : g + 1].clone().requires_grad_()
        value = loss_of(options(loss), [c])(x[g : g + 1], own)
        assert value.shape == (1,)
        value.sum().backward()
        torch.testing.assert_close(own.grad[0], generated.grad[g], rtol=1e-4, atol=1e-7)
    assert generated.grad.flatten(1).abs().amax(1).min() > 0
    alone = generated.detach().clone().requires_grad_()
    loss_of(options(loss), classes)(x, alone)[2].backward()  # no other generator's images matter to it
    assert not alone.grad[[0, 1, 3]].any()


@pytest.mark.parametrize("loss", LOSSES)
def test_the_target_is_frozen_and_left_as_it_is(loss):
    network = target().train()
    before = [p.clone() for p in network.parameters()]
    x, generated = batch(2)
    loss_of(options(loss), [1, 3], network)(x, generated).sum().backward()
    assert generated.grad is not None
    assert x.grad is None
    assert network.training
    assert network[1].inplace
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_the_lrp_loss_is_zero_where_relevant_pixels_lose_epsilon_and_others_gain_it():
    x, _ = batch(2)
    moved = x + torch.from_numpy(np.where(RELEVANT[[1, 2]], -EPSILON, EPSILON)).float()[:, None]
    assert loss_of(options("lrp"), [1, 2])(x, moved).abs().max() < 1e-12
    everything = make_loss(options("lrp"), target(), torch.tensor([0]), EPSILON, relevant=np.ones((4, *SHAPE), bool))
    assert everything(x[:1], x[:1]).item() == pytest.approx(0.5 * EPSILON**2, rel=1e-5)


def test_the_other_losses_at_the_original_image():
    x, _ = batch(1)
    assert loss_of(options("suspiciousness"), [0])(x, x).item() == 0
    entropy = nn.functional.cross_entropy(target()(x[0]), torch.zeros(5, dtype=torch.int64))
    assert loss_of(options("nce"), [0])(x, x).item() == pytest.approx(-entropy.item(), rel=1e-5)


def test_masks_and_classes_of_another_target_are_refused():
    with pytest.raises(InputError, match="of another target"):
        make_loss(
            options("suspiciousness"),
            target(),
            torch.tensor([0]),
            EPSILON,
            suspicious={"dense_1": np.ones((4, 5), bool)},
        )
    with pytest.raises(InputError, match="too few for class 4"):
        make_loss(options("nce"), target(), torch.tensor([1, 4]), EPSILON)
