"""Gradient attacks: by hand in PyTorch, in closed form on a linear classifier, within the ball, and reproducible."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from mithridate import device
from mithridate.adversarial import gradient_attacks
from mithridate.adversarial.gradient_attacks import Fgsm, Pgd, attack, into_ball, method, random_signs
from mithridate.adversarial.toolbox import global_generators
from mithridate.errors import InputError
from mithridate.options.dgn import AutoAttackOptions, EvaluationOptions, GradientAttackOptions
from mithridate.repair.predict import predictions
from mithridate.streams import Stream

SHAPE, CLASSES, EPSILON = (1, 4, 4), 3, 0.1
VERSIONS = ["apgd-ce", "apgd-dlr", "deepfool", "square"]
AUTO = AutoAttackOptions(versions=VERSIONS, iterations=8)
METHODS = [Fgsm(), Pgd(0.03, 6, 0), Pgd(0.03, 6, 2), AUTO]
HOW = {"epsilon": EPSILON, "seed": 0}


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(gradient_attacks, "BATCH", 16)


def data(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images with a row that is brighter, which is their class."""
    rng = np.random.default_rng(seed)
    x, y = 0.6 * rng.random((n, *SHAPE), np.float32), rng.integers(0, CLASSES, n)
    x[np.arange(n), 0, y] += 0.3
    return x, y


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Trained on such images; smooth, so that gradients are nowhere zero."""
    x, y = map(torch.from_numpy, data(300, 1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, CLASSES))
    adam = torch.optim.Adam(made.parameters(), lr=0.02)
    for _ in range(150):
        adam.zero_grad()
        F.cross_entropy(made(x), y).backward()
        adam.step()
    return made.eval()


def accuracy(network: nn.Module, x: np.ndarray, y: np.ndarray) -> float:
    return (predictions(network, x, scale=1) == y).mean()


def gradient(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(network(x), y), x)[0]


def test_fgsm_by_hand(network):
    (x, y), how = data(40), {**HOW, "epsilon": 0.25}
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    expected = (images + 0.25 * gradient(network, images, labels).sign()).clamp(0, 1).numpy()
    made = attack(network, x, y, Fgsm(), **how)
    np.testing.assert_allclose(made, expected, rtol=0, atol=2**-24)
    assert accuracy(network, made, y) < 0.5 < 0.9 < accuracy(network, x, y)


@pytest.mark.parametrize("starts", [0, 1])
def test_pgd_by_hand(network, starts):
    x, y = data(10)
    images, labels, now = torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(x)
    if starts:
        with global_generators(Stream("gradient attack", 0, "pgd", 0).seed(), "cpu"):
            now = images + torch.from_numpy(np.random.uniform(-EPSILON, EPSILON, (10, 16)).reshape(x.shape)).float()  # noqa: NPY002
        now = now.clamp(0, 1)
    for _ in range(7):
        now = (now + 0.02 * gradient(network, now, labels).sign()).clamp(0, 1)
        now = images + (now - images).clamp(-EPSILON, EPSILON)
    made = attack(network, x, y, Pgd(0.02, 7, starts), **HOW)
    np.testing.assert_allclose(made, now.numpy(), rtol=0, atol=1e-6)


def test_stronger_attacks_fool_more(network):
    x, y = data(120)
    fgsm, one, many = (attack(network, x, y, how, **HOW) for how in (Fgsm(), Pgd(0.03, 10, 1), Pgd(0.03, 10, 4)))
    auto = attack(network, x, y, AutoAttackOptions(versions=["apgd-ce", "apgd-dlr"], restarts=3), **HOW)
    losses = [F.cross_entropy(network(torch.from_numpy(made)), torch.from_numpy(y)).item() for made in (x, fgsm, one)]
    assert losses == sorted(losses)
    right = [predictions(network, made, scale=1) == y for made in (x, fgsm, one, many, auto)]
    accuracies = [found.mean() for found in right]
    assert accuracies[0] > 0.9
    assert 0.05 < accuracies[3] <= accuracies[2] <= accuracies[1] < accuracies[0]
    assert accuracies[4] <= accuracies[2]
    assert not (right[3] & ~right[2]).any()  # the first of four starts is the only one of one
    np.testing.assert_array_equal(one[~right[2]], many[~right[2]])
    control = random_signs(x, EPSILON, 0, "control")
    assert accuracy(network, control, y) > accuracies[1]


def test_no_attack_beats_the_closed_form_of_a_linear_classifier():
    (x, y), rng = data(160), np.random.default_rng(2)
    y = y % 2
    linear = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        linear[1].weight.copy_(torch.from_numpy(rng.normal(size=(2, 16)) ** 3))
        z = linear(torch.from_numpy(x)).numpy()
        linear[1].bias[1] += float(np.median(z[:, 0] - z[:, 1]))
        z = linear(torch.from_numpy(x)).double().numpy()
        slope = (linear[1].weight[0] - linear[1].weight[1]).double().numpy().reshape(SHAPE)
    labels = z.argmax(1)
    towards = -np.sign(slope) * np.where(labels == 0, 1, -1)[:, None, None, None]  # lowers the margin
    room = np.minimum(EPSILON, np.where(towards > 0, 1 - x.astype(np.float64), x))
    margin = np.abs(z[:, 0] - z[:, 1]) - (np.abs(slope) * room).sum((1, 2, 3))
    assert np.abs(margin).min() > 1e-5
    robust = margin > 0
    assert 0.1 < robust.mean() < 0.9
    exact = [Fgsm(), Pgd(0.05, 8, 0), Pgd(0.05, 8, 2)]
    for how in [*exact, AutoAttackOptions(versions=["apgd-ce", "deepfool", "square"], iterations=10)]:
        right = predictions(linear, attack(linear, x, labels, how, **HOW), scale=1) == labels
        assert not (robust & ~right).any()
        if how in exact:
            np.testing.assert_array_equal(right, robust)
    with pytest.raises(InputError, match="apgd-dlr needs at least 3 classes"):
        attack(linear, x, labels, AutoAttackOptions(), **HOW)


def test_one_output_is_two_classes():
    x, y = data(20)
    single = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    double = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        double[1].weight.copy_(torch.cat([torch.zeros(1, 16), single[1].weight]))
        double[1].bias.copy_(torch.cat([torch.zeros(1), single[1].bias]))
    first, second = (attack(net, x, y % 2, Fgsm(), **HOW) for net in (single, double))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("how", METHODS)
@pytest.mark.parametrize("epsilon", [0.0313, 0.3])
def test_the_ball_holds_exactly(network, how, epsilon):
    x, y = data(20)
    x[0], x[1] = 0, 1
    made = attack(network, x, y, how, epsilon=epsilon, seed=0)
    assert made.dtype == np.float32
    assert made.shape == x.shape
    assert np.abs(made.astype(np.float64) - x).max() <= epsilon
    assert np.abs(made - x).max() <= np.float32(epsilon)
    assert made.min() >= 0
    assert made.max() <= 1


@pytest.mark.parametrize("how", METHODS)
def test_an_attack_depends_on_its_batch_and_nothing_else(network, how):
    x, y = data(37)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    network.train()
    before = [np.random.get_state()[1].copy(), torch.get_rng_state(), *map(torch.clone, network.state_dict().values())]  # noqa: NPY002
    first = attack(network, x, y, how, **HOW)
    after = [np.random.get_state()[1], torch.get_rng_state(), *network.state_dict().values()]  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    network.eval()
    np.random.seed(6)  # noqa: NPY002
    torch.manual_seed(6)
    np.testing.assert_array_equal(first, attack(network, x, y, how, **HOW))
    other, labels = x.copy(), y.copy()
    other[:16], labels[:16] = data(16, 9)
    np.testing.assert_array_equal(first[16:], attack(network, other, labels, how, **HOW)[16:])
    np.testing.assert_array_equal(first[:32], attack(network, x[:32], y[:32], how, **HOW))
    if how == METHODS[2]:
        assert not np.array_equal(first, attack(network, x, y, how, epsilon=EPSILON, seed=1))


def test_without_labels_the_networks_predictions_are_attacked(network):
    x, _ = data(30)
    found = predictions(network, x, scale=1)
    for how in METHODS:
        np.testing.assert_array_equal(attack(network, x, None, how, **HOW), attack(network, x, found, how, **HOW))


def test_autoattack_leaves_what_is_wrong_anyway(network):
    x, y = data(30)
    wrong = (y + 1) % CLASSES
    taken = predictions(network, x, scale=1) != wrong
    assert taken.sum() > 20
    np.testing.assert_array_equal(attack(network, x, wrong, AUTO, **HOW)[taken], x[taken])


@pytest.mark.parametrize("shape", [(2, 2), (2, 9), (28, 28)])
def test_square_knows_images_of_any_size(shape):
    x = np.random.default_rng(0).random((5, 1, *shape), np.float32)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1], CLASSES))
    made = attack(flat, x, None, AutoAttackOptions(versions=["square"], iterations=12), **HOW)
    assert np.abs(made - x).max() <= np.float32(EPSILON)
    with pytest.raises(InputError, match="at least 2 x 2"):
        attack(flat, x.reshape(5, 1, 1, -1), None, AutoAttackOptions(versions=["square"]), **HOW)


def test_without_a_radius_nothing_changes(network):
    x, y = data(5)
    for how in METHODS:
        made = attack(network, x, y, how, epsilon=0, seed=0)
        np.testing.assert_array_equal(made, x)
        assert made is not x
    np.testing.assert_array_equal(random_signs(x, 0, 0, "a"), x)


def test_budgets_come_from_the_options():
    how = GradientAttackOptions(attacks="pgd", eps_steps_pgd=0.01, max_iterations_pgd=40, num_random_init_pgd=10)
    assert method("fgsm", how) == Fgsm()
    assert method(how.attacks, how) == Pgd(0.01, 40, 10)
    evaluation = EvaluationOptions(eps_steps_pgd=0.02, num_random_init_pgd=1)
    assert method("pgd", evaluation, 0.5) == Pgd(0.01, 20, 1)
    assert method("autoattack", evaluation) == evaluation.autoattack
    for name, options in (("autoattack", how), ("cw", evaluation)):
        with pytest.raises(InputError, match=f"'{name}' is not known"):
            method(name, options)
    with pytest.raises(ValidationError, match="apgd-ce"):
        AutoAttackOptions(versions=["fab"])


def test_what_cannot_be_attacked_is_refused(network):
    x, y = data(5)
    for images, labels, sentence in (
        (x * 2, y, "outside"),
        (x, y + 1, "allowed are 0 to 2"),
        (x, y[:4], "5 images and 4 labels"),
        (x[:0], y[:0], "at least 1"),
    ):
        with pytest.raises(InputError, match=sentence):
            attack(network, images, labels, Fgsm(), **HOW)


def test_into_ball_is_a_projection():
    x, rng = data(30)[0], np.random.default_rng(0)
    far = x + rng.normal(scale=0.2, size=x.shape)
    far[0, 0, 0, 0] = np.nan
    near = into_ball(x, far, EPSILON)
    assert near.dtype == np.float32
    assert near[0, 0, 0, 0] == x[0, 0, 0, 0]
    inside = (np.abs(far - x) < 0.999 * EPSILON) & (far > 0) & (far < 1)
    np.testing.assert_array_equal(near[inside], far[inside].astype(np.float32))
    np.testing.assert_array_equal(into_ball(x, near, EPSILON), near)
    assert np.abs(near.astype(np.float64) - x).max() <= EPSILON


def test_random_signs_are_half_up_and_half_down():
    x = np.full((200, *SHAPE), 0.5, np.float32)
    made = random_signs(x, EPSILON, 3, "control")
    np.testing.assert_allclose(np.abs(made - 0.5), EPSILON, rtol=1e-6)
    assert 0.47 < (made > 0.5).mean() < 0.53
    np.testing.assert_array_equal(made[:21], random_signs(x[:21], EPSILON, 3, "control"))
    for seed, name in ((4, "control"), (3, "other")):
        assert not np.array_equal(made, random_signs(x, EPSILON, seed, name))
    assert random_signs(np.ones_like(x), EPSILON, 3, "control").max() == 1


def test_art_comes_late_and_leaves_no_files(tmp_path):
    code = (
        "import sys, os, mithridate.adversarial.gradient_attacks, mithridate.adversarial.adversarial_training\n"
        "assert 'art' not in sys.modules\n"
        "from mithridate.adversarial.toolbox import import_art\n"
        "import_art()\n"
        "assert 'art' in sys.modules and 'tensorflow' not in sys.modules and 'matplotlib' not in sys.modules\n"
        f"assert os.environ['HOME'] == {str(tmp_path)!r}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "HOME": str(tmp_path)})
    assert not list(tmp_path.iterdir())
