"""Upper and lower costs: the specification's check values, the published formulas written out, derivatives."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mithridate.attacks.costs import upper_cost
from mithridate.models.registry import initialise
from mithridate.streams import Stream
from mithridate.training.costs import SQUEEZE, gaussian_loss, macer_loss, perturbation, smoothadv_loss

QUANTILE = NormalDist().inv_cdf
SIGMA, BETA = 0.5, 16.0


def uniform(*shape: int, name: str = "x") -> Tensor:
    return torch.from_numpy(Stream("costs", name).uniform(*shape))


def network(classes: int = 3) -> nn.Module:
    """Smooth, so that derivatives can be checked, in float64."""

    def build(*_: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(9, 6), nn.Tanh(), nn.Linear(6, classes))

    return initialise(build, (1, 3, 3), classes, Stream("costs", "net")).double().requires_grad_(False)


IMAGES, LABELS = uniform(5, 1, 3, 3), torch.tensor([0, 1, 2, 0, 1])
NOISE = SIGMA * (uniform(5, 1, 3, 3, name="noise") - 0.5) * 3
DRAWS = SIGMA * (uniform(5, 4, 1, 3, 3, name="draws") - 0.5) * 3


def fixed(votes: list[float], beta: float):
    """A classifier whose soft votes are these, whatever the image."""
    return lambda images: (torch.tensor(votes).double().log() / beta).expand(len(images), -1)


def upper_of(votes: list[float], label: int = 0, sigma: float = SIGMA) -> float:
    images, noise = torch.zeros(1, 1, 2, 2).double(), torch.zeros(1, 3, 1, 2, 2).double()
    how = {"sigma": sigma, "beta": BETA, "squeeze": SQUEEZE}
    return upper_cost(fixed(votes, BETA), images, torch.tensor([label]), noise, **how).item()


def test_upper_cost_has_the_specifications_values():
    sure = [1.0, 1e-300, 1e-300]
    assert upper_of(sure) == pytest.approx(1.5451, abs=5e-5)
    assert upper_of(sure, sigma=0.25) == pytest.approx(0.7726, abs=5e-5)
    assert upper_of([0.8, 0.15, 0.05]) == pytest.approx(0.4682, abs=5e-5)
    assert upper_of([0.15, 0.05, 0.8], label=2) == pytest.approx(0.4682, abs=5e-5)
    assert upper_of([0.8, 0.15, 0.05], label=1) == 0  # a wrong prediction counts nothing


def test_upper_cost_is_the_formula_and_zero_has_no_gradient():
    net = network()
    how = {"sigma": SIGMA, "beta": 3.0, "squeeze": SQUEEZE}
    images = IMAGES.clone().requires_grad_()
    costs = upper_cost(net, images, LABELS, DRAWS, **how)
    for image, label, draws, cost in zip(IMAGES, LABELS, DRAWS, costs.tolist(), strict=True):
        votes = (3.0 * net(image + draws)).softmax(1).mean(0)
        top, second = sorted(((1 - 2 * SQUEEZE) * votes + SQUEEZE).tolist(), reverse=True)[:2]
        expected = SIGMA / 2 * (QUANTILE(top) - QUANTILE(second)) if votes.argmax() == label else 0
        assert cost == pytest.approx(expected, rel=1e-9)
    assert 0 < (costs > 0).sum() < len(costs)
    gradient = torch.autograd.grad(costs.sum(), images)[0].flatten(1).abs().amax(1)
    assert ((gradient > 0) == (costs > 0)).all()


def test_macer_is_the_published_loss_when_averaged():
    """Zhai et al., algorithm 1, in plain Python; every image counts for itself."""
    net, weight, beta = network(), 16.0, 4.0
    for gamma, expected in ((8.0, 2), (1.0, 1)):
        losses = macer_loss(net, IMAGES, LABELS, DRAWS, sigma=SIGMA, weight=weight, beta=beta, gamma=gamma)
        classification, robustness, inside = 0.0, 0.0, 0
        for image, label, draws in zip(IMAGES, LABELS.tolist(), DRAWS, strict=True):
            logits = net(image + draws)
            classification -= math.log(logits.softmax(1).mean(0)[label])
            votes = ((1 - 2 * SQUEEZE) * (beta * logits).softmax(1).mean(0) + SQUEEZE).tolist()
            top, second = sorted(votes, reverse=True)[:2]
            margin = QUANTILE(top) - QUANTILE(second)
            if int(np.argmax(votes)) == label and abs(margin) <= gamma:
                robustness += SIGMA / 2 * (gamma - margin)
                inside += 1
        assert losses.shape == (5,)
        assert losses.mean().item() == pytest.approx((classification + weight * robustness) / 5, rel=1e-9)
        assert inside == expected
    alone = macer_loss(net, IMAGES[2:3], LABELS[2:3], DRAWS[2:3], sigma=SIGMA, weight=weight, beta=beta, gamma=1.0)
    torch.testing.assert_close(alone, losses[2:3])


def test_macer_with_one_draw_and_no_weight_is_gaussian_training():
    macer = macer_loss(network(), IMAGES, LABELS, NOISE[:, None], sigma=SIGMA, weight=0, beta=BETA, gamma=8)
    torch.testing.assert_close(macer, gaussian_loss(network(), IMAGES, LABELS, NOISE))


@pytest.mark.parametrize("logits", [[200.0, -200.0, -200.0], [-200.0, 200.0, -200.0]])
def test_sure_classifiers_have_finite_losses_and_derivatives(logits):
    """In float32: no probability of 0 or 1 reaches a quantile or a logarithm."""
    weights = torch.tensor(logits, requires_grad=True)
    images, labels, noise = torch.zeros(2, 1, 2, 2), torch.tensor([0, 0]), torch.zeros(2, 3, 1, 2, 2)
    net = lambda x: weights + x.flatten(1)[:, :3]  # noqa: E731
    losses = macer_loss(net, images, labels, noise, sigma=SIGMA, weight=16, beta=BETA, gamma=8)
    radii = upper_cost(net, images, labels, noise, sigma=SIGMA, beta=BETA, squeeze=SQUEEZE)
    gradient = torch.autograd.grad((losses + radii).sum(), weights, create_graph=True)[0]
    second = torch.autograd.grad(gradient.sum(), weights)[0]
    assert all(t.isfinite().all() for t in (losses, radii, gradient, second))


@pytest.mark.parametrize(("epsilon", "steps"), [(0.3, 2), (1.0, 2), (2.5, 5), (0.2, 1)])
def test_perturbations_stay_in_the_ball_and_raise_the_loss(epsilon, steps):
    net = network()
    change = perturbation(net, IMAGES, LABELS, NOISE, epsilon=epsilon, steps=steps)
    assert not change.requires_grad
    assert change.flatten(1).norm(dim=1).max() <= epsilon * (1 + 1e-12)
    assert (IMAGES + change).min() >= -1e-12
    assert (IMAGES + change).max() <= 1 + 1e-12
    raised = gaussian_loss(net, IMAGES + change, LABELS, NOISE) - gaussian_loss(net, IMAGES, LABELS, NOISE)
    assert (raised > 0).all()


def test_perturbations_are_the_published_steps():
    """Step of 2ε/steps along the unit gradient, clip, project: written out for one image."""
    net, epsilon, steps = network(), 0.4, 3
    found = perturbation(net, IMAGES, LABELS, NOISE, epsilon=epsilon, steps=steps)
    for row in range(len(IMAGES)):
        x, change = IMAGES[row : row + 1], torch.zeros(1, 1, 3, 3).double()
        for _ in range(steps):
            change.requires_grad_()
            loss = F.cross_entropy(net(x + change + NOISE[row : row + 1]), LABELS[row : row + 1])
            gradient = torch.autograd.grad(loss, change)[0]
            change = (x + change.detach() + 2 * epsilon / steps * gradient / gradient.norm()).clamp(0, 1) - x
            change = change * min(1, epsilon / change.norm().item())
        torch.testing.assert_close(found[row : row + 1], change)


def test_a_saturated_network_leaves_images_where_they_are():
    change = perturbation(lambda x: torch.zeros(5, 3) + 0 * x.sum(), IMAGES, LABELS, NOISE, epsilon=1, steps=2)
    assert (change == 0).all()


def test_a_tiny_gradient_has_a_direction_all_the_same():
    x = torch.full((1, 1, 1, 2), 0.5)
    change = perturbation(
        lambda x: 1e-30 * x.flatten(1) @ torch.tensor([[3.0, 0], [-4.0, 0]]),
        x,
        torch.tensor([1]),
        0 * x,
        epsilon=0.1,
        steps=2,
    )
    torch.testing.assert_close(change.flatten(), torch.tensor([0.06, -0.08]))


def test_the_perturbation_is_a_constant_in_derivatives():
    net, how = network().requires_grad_(), {"epsilon": 1.0, "steps": 2}
    images, weights = IMAGES.clone().requires_grad_(), list(net.parameters())
    constant = perturbation(net, IMAGES, LABELS, NOISE, **how)
    sought = torch.autograd.grad(smoothadv_loss(net, images, LABELS, NOISE, **how).sum(), [images, *weights])
    given = torch.autograd.grad(gaussian_loss(net, images + constant, LABELS, NOISE).sum(), [images, *weights])
    for a, b in zip(sought, given, strict=True):
        torch.testing.assert_close(a, b)


def test_the_perturbation_is_sought_where_asked():
    calls: list[str] = []
    net = network()
    named = [lambda x, name=name: calls.append(name) or net(x) for name in ("search", "train")]
    smoothadv_loss(named[1], IMAGES, LABELS, NOISE, epsilon=1.0, steps=2, search=named[0])
    assert calls == ["search", "search", "train"]


def test_costs_have_first_and_second_derivatives():
    net, images = network(), IMAGES[:2].clone().requires_grad_()
    how = {"sigma": SIGMA, "beta": 2.0}

    def cost(x: Tensor) -> Tensor:
        macer = macer_loss(net, x, LABELS[:2], DRAWS[:2], weight=2.0, gamma=8.0, **how)
        return macer + upper_cost(net, x, LABELS[:2], DRAWS[:2], squeeze=SQUEEZE, **how)

    assert torch.autograd.gradcheck(cost, images)
    assert torch.autograd.gradgradcheck(cost, images)
