"""The bilevel attack: its hypergradient against analysis and finite differences, its box, its state, its resumption."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mithridate import device
from mithridate.attacks import bilevel
from mithridate.attacks.bilevel import Attacker
from mithridate.attacks.costs import upper_cost
from mithridate.attacks.hypergradient import Adam, LinearSystem
from mithridate.attacks.poisons import AttackData, Poison, apply, attack_data, check_ball, random_poison
from mithridate.attacks.surrogate import Setting, Surrogate
from mithridate.data.digits import digits
from mithridate.errors import InputError
from mithridate.models.registry import initialise
from mithridate.noise import gaussian
from mithridate.options.smoothing import BilevelOptions, GaussianOptions, MacerOptions, SmoothAdvOptions
from mithridate.progress import Progress
from mithridate.streams import Stream
from mithridate.training.costs import gaussian_loss

DIGITS = digits()
SIZES = {"epochs": 3, "restart": 2, "clean_batch": 30, "poison_batch": 8, "validation_batch": 6, "draws": 4}
STEPS = {"weight_steps": 2, "vector_steps": 2}
CONSTANTS = {"gaussian": GaussianOptions(), "smoothadv": SmoothAdvOptions(epsilon=1), "macer": MacerOptions(beta=4)}
MODELS = {"gaussian": "small_cnn", "smoothadv": "small_cnn", "macer": "mlp"}  # with and without BatchNorm


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def known(n: int = 200, target: int = 8) -> AttackData:
    images, labels = (DIGITS.x_train[:n] / 16).astype(np.float32), DIGITS.y_train[:n]
    held_out = np.flatnonzero(Stream("held out").uniform(n) < 0.3)
    return attack_data(images, labels, held_out, target=target, num_classes=10, sha256="abc")


def setting(procedure: str = "gaussian", **changes) -> Setting:
    options = BilevelOptions(**{**SIZES, **STEPS, **changes.pop("options", {})})
    given = {"model": MODELS[procedure], "sigma": 0.25, "epsilon": 0.1, "seed": 0} | changes
    return Setting(procedure=procedure, options=options, constants=CONSTANTS[procedure], **given)  # type: ignore[arg-type]


def quiet(total: int = 3) -> Progress:
    return Progress("", total, write=lambda line: None)


def normal(*shape: int, name: str) -> Tensor:
    return gaussian(shape, "test bilevel", name).double()


# The mathematics ------------------------------------------------------------------------------------------------------


def test_products_are_those_of_the_hessian_and_of_the_mixed_derivative():
    v, u, p = (normal(7, name=name).requires_grad_() for name in "vup")

    def cost(v: Tensor, u: Tensor) -> Tensor:
        return (v * u.roll(1)).tanh().sum() ** 2 + (v.exp() * u**2).sum() + (v[0] * v[3] * u[2])

    p = p.detach()
    product = LinearSystem(cost(v, u), v, 0.0).product(p)
    torch.testing.assert_close(product, torch.autograd.functional.hvp(lambda x: cost(x, u), v, p)[1])
    damped, mixed = LinearSystem(cost(v, u), v, 0.3).solved(p, u)
    torch.testing.assert_close(damped, product + 0.3 * p)
    hessian = torch.autograd.functional.hessian(cost, (v, u))
    torch.testing.assert_close(mixed, p @ hessian[0][1])


def test_the_residuals_gradient_is_that_of_autograd_through_the_third_order_graph():
    v, p, b = (normal(6, name=name) for name in "vpb")
    v, x = v.requires_grad_(), p.clone().requires_grad_()
    cost = (v.sin() * v.roll(2)).sum() ** 2
    first = torch.autograd.grad(cost, v, create_graph=True)[0]
    through = torch.autograd.grad(first, v, x, create_graph=True)[0] + 0.1 * x - b
    naive = torch.autograd.grad(through.square().sum(), x)[0]
    system = LinearSystem((v.sin() * v.roll(2)).sum() ** 2, v, 0.1)
    torch.testing.assert_close(2 * system.product(system.product(p) - b), naive)


def test_the_hypergradient_of_a_quadratic_problem_is_the_analytic_one():
    """g = ½vᵀAv − vᵀBu, f = ½‖v − c‖²: dF/du = BᵀA⁻¹(A⁻¹Bu − c)."""
    root, B, c = normal(5, 5, name="A"), normal(5, 4, name="B"), normal(5, name="c")
    A, u = root @ root.T / 5 + torch.eye(5), normal(4, name="u").requires_grad_()
    best = torch.linalg.solve(A, B @ u.detach())
    v = best.clone().requires_grad_()
    system = LinearSystem(v @ A @ v / 2 - v @ B @ u, v, 0.0)
    right, adam = best - c, Adam((1, 5), 1e-2, dtype=torch.float64)
    p = system.descend(torch.zeros(5).double(), right, 3000, adam)
    analytic = B.T @ torch.linalg.solve(A, best - c)
    applied, mixed = system.solved(p, u)
    torch.testing.assert_close(applied, right, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(-mixed, analytic, atol=1e-3, rtol=1e-3)


def test_the_hypergradient_is_that_of_training_to_convergence():
    """A tiny network, trained by Newton's method on moved images; the upper cost's finite differences."""
    net = initialise(
        lambda *_: nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)), (1, 2, 2), 3, Stream("net")
    ).double()
    named = {name: p.detach() for name, p in net.named_parameters()}
    images, held_out = normal(20, 1, 2, 2, name="images").sigmoid(), normal(6, 1, 2, 2, name="held out").sigmoid()
    labels, aims = images.flatten(1).argmax(1) % 3, held_out.flatten(1).argmax(1) % 3
    noise, draws = 0.3 * normal(20, 1, 2, 2, name="noise"), 0.3 * normal(6, 5, 1, 2, 2, name="draws")

    def logits(weights: Tensor):
        parts = weights.split([p.numel() for p in named.values()])
        values = {name: part.view_as(named[name]) for name, part in zip(named, parts, strict=True)}
        return lambda x: torch.func.functional_call(net, values, (x,))

    def lower(weights: Tensor, images: Tensor) -> Tensor:
        return gaussian_loss(logits(weights), images, labels, noise).mean() + 0.02 * weights.square().sum()

    def upper(weights: Tensor) -> Tensor:
        return upper_cost(logits(weights), held_out, aims, draws, sigma=0.3, beta=2.0, squeeze=1e-3).mean()

    def trained(images: Tensor, weights: Tensor) -> Tensor:
        """The minimum near by: LBFGS, then Newton's steps."""
        weights = weights.clone().requires_grad_()
        optimiser = torch.optim.LBFGS([weights], max_iter=300, tolerance_grad=1e-8, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimiser.zero_grad()
            cost = lower(weights, images)
            cost.backward()
            return cost

        optimiser.step(closure)
        weights = weights.detach()
        for _ in range(4):
            gradient = torch.autograd.functional.jacobian(lambda w: lower(w, images), weights)
            hessian = torch.autograd.functional.hessian(lambda w: lower(w, images), weights)
            weights = weights - torch.linalg.solve(hessian, gradient)
        assert gradient.norm() < 1e-12
        return weights

    best = trained(images, torch.cat([p.flatten() for p in named.values()]))
    weights, moved = best.clone().requires_grad_(), images.clone().requires_grad_()
    right = torch.autograd.grad(upper(weights), weights)[0]
    assert right.norm() > 1e-3
    system = LinearSystem(lower(weights, moved), weights, 0.0)
    hessian = torch.stack([system.product(row) for row in torch.eye(len(best)).double()])
    torch.testing.assert_close(hessian, hessian.T)
    exact = torch.linalg.solve(hessian, right)
    approximate = system.descend(torch.zeros_like(best), right, 3000, Adam((1, len(best)), 1e-2, dtype=best.dtype))
    hypergradient = -torch.autograd.grad(system.gradient, moved, exact, retain_graph=True)[0]
    descended = -system.solved(approximate, moved)[1]
    step = 1e-4
    for row, pixel in [(0, 0), (3, 2), (11, 1), (19, 3)]:
        ends = []
        for sign in (1, -1):
            there = images.clone()
            there[row].view(-1)[pixel] += sign * step
            ends.append(upper(trained(there, best)).item())
        assert hypergradient[row].view(-1)[pixel].item() == pytest.approx(
            (ends[0] - ends[1]) / (2 * step), rel=1e-4, abs=1e-8
        )
    assert torch.cosine_similarity(descended.flatten(), hypergradient.flatten(), dim=0) > 0.99


def test_adam_is_torchs_with_a_state_per_row():
    """Rows that step at different times, against one torch.optim.Adam for each."""
    start = normal(4, 2, 3, name="start")
    adam, value = Adam((4, 2, 3), 0.05, dtype=torch.float64), start.clone()
    theirs = [nn.Parameter(row.clone()) for row in start]
    optimisers = [torch.optim.Adam([row], 0.05) for row in theirs]
    for batch, rows in enumerate(([0, 2], [2, 1, 3], [2], [3, 0], [1, 2])):
        gradient = normal(len(rows), 2, 3, name=f"gradient {batch}") * 10.0 ** (batch - 3)
        value[rows] = adam.step(value[rows], gradient, torch.tensor(rows))
        for row, own in zip(rows, gradient, strict=True):
            theirs[row].grad = own
            optimisers[row].step()
    torch.testing.assert_close(value, torch.stack([row.detach() for row in theirs]))
    assert adam.steps.tolist() == [2, 2, 4, 2]


# The attack -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("procedure", MODELS)
def test_images_stay_in_the_ball_and_labels_and_other_images_stay(procedure):
    data = known()
    before = data.others.copy(), data.validation.copy(), data.images.copy()
    asked = setting(procedure, epsilon=0.07)
    poison = Attacker(data, asked).attack(quiet())
    check_ball(poison, data.images, "poison")
    change = np.abs(poison.images.astype(np.float64) - data.images)
    assert change.max() == pytest.approx(0.07, rel=1e-5)
    assert (change.max((1, 2, 3)) > 0).all()
    assert poison.images.min() >= 0
    assert poison.images.max() <= 1
    assert (poison.labels == 8).all()
    assert poison.index is data.index
    for array, old in zip((data.others, data.validation, data.images), before, strict=True):
        np.testing.assert_array_equal(array, old)
    assert (poison.procedure, poison.target, poison.sha256, poison.sigma) == (procedure, 8, "abc", 0.25)
    assert poison.history["epoch"].tolist() == [0, 1, 2]
    assert np.isfinite(poison.history.to_numpy()).all()
    assert (poison.history["mean_change"] <= 0.07 + 1e-6).all()


def test_nothing_moves_within_a_ball_of_radius_zero():
    data = known()
    np.testing.assert_array_equal(Attacker(data, setting(epsilon=0.0)).attack(quiet()).images, data.images)


def test_the_poison_is_a_function_of_its_setting_alone():
    torch.manual_seed(1)
    data, state = known(), torch.get_rng_state()
    first = Attacker(data, setting()).attack(quiet())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    same = Attacker(data, setting()).attack(quiet())
    np.testing.assert_array_equal(first.images, same.images)
    assert first.history.equals(same.history)
    for changes in ({"seed": 1}, {"sigma": 0.5}, {"options": {"damping": 1.0}}):
        assert not np.array_equal(Attacker(data, setting(**changes)).attack(quiet()).images, first.images)


def test_optimiser_state_belongs_to_the_image_and_not_to_its_place_in_the_batch():
    data = known()
    one_cycle = {"epochs": 2, "restart": 3}
    own = Attacker(data, setting(options=one_cycle))
    own.attack(quiet())
    assert own.image_steps.steps.tolist() == [2] * len(data.images)  # one step an epoch
    assert own.image_steps.first.shape == data.images.shape
    shared = Attacker(data, setting(options={**one_cycle, "shared_state": True}))
    shared.attack(quiet())
    batches, rest = divmod(len(data.images), 8)
    assert shared.image_steps.steps.tolist() == [2 * (batches + (place < rest)) for place in range(8)]
    assert not torch.equal(own.images, shared.images)


def test_batch_norm_learns_in_training_steps_and_rests_in_the_costs():
    surrogate = Surrogate(setting("smoothadv"), (1, 8, 8), 10, 0, 0)
    images, labels = torch.from_numpy(DIGITS.x_train[:20] / 16).float(), torch.from_numpy(DIGITS.y_train[:20])
    noise, weights = 0.25 * gaussian((20, 1, 8, 8), "noise"), surrogate.weights

    def statistics() -> list[Tensor]:
        return [buffer.clone() for name, buffer in surrogate.tensors().items() if "running" in name]

    start = statistics()
    alone = surrogate.lower(weights, images[:1], labels[:1], noise[:1], training=False)
    pair = [surrogate.lower(weights, images[r], labels[r], noise[r], training=False) for r in ([0, 1], [1, 1])]
    torch.testing.assert_close(2 * pair[0] - pair[1], alone, atol=1e-5, rtol=1e-5)  # a sum over images
    surrogate.upper(weights, images, labels, noise[:, None])
    assert all(torch.equal(a, b) for a, b in zip(start, statistics(), strict=True))
    surrogate.train(images, labels, noise)
    assert not any(torch.equal(a, b) for a, b in zip(start, statistics(), strict=True))
    assert surrogate.tensors()["buffer.1.num_batches_tracked"] == 1  # the adversary is sought in evaluation mode


def test_restarts_begin_with_a_new_network_and_keep_the_images():
    attacker = Attacker(known(), setting(options={"epochs": 2, "restart": 2}))
    first = attacker.surrogate.weights.clone()
    attacker.attack(quiet())
    assert not torch.equal(attacker.surrogate.weights, first)
    expected = Surrogate(attacker.setting, (1, 8, 8), 10, 1, 0)
    assert all(
        torch.equal(a, b)
        for a, b in zip(attacker.surrogate.tensors().values(), expected.tensors().values(), strict=True)
    )
    assert (attacker.image_steps.steps == 0).all()
    assert not torch.equal(attacker.images, attacker.clean)


class Killed(Exception):
    pass


@pytest.mark.parametrize("procedure", MODELS)
@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupted_attack_goes_on_to_the_same_bits(procedure, epoch, tmp_path, monkeypatch):
    data, asked = known(), setting(procedure)
    whole = Attacker(data, asked).attack(quiet())
    run = Attacker._run_batch

    def killed(self, batch, *rows):
        if (self.epoch, batch) == (epoch, 1):
            raise Killed
        return run(self, batch, *rows)

    monkeypatch.setattr(Attacker, "_run_batch", killed)
    with pytest.raises(Killed):
        Attacker(data, asked, tmp_path).attack(quiet())
    monkeypatch.setattr(Attacker, "_run_batch", run)
    progress = quiet()
    resumed = Attacker(data, asked, tmp_path).attack(progress)
    assert progress._skipped == epoch
    np.testing.assert_array_equal(resumed.images, whole.images)
    assert resumed.history.equals(whole.history)
    monkeypatch.setattr(Attacker, "_run_batch", None)  # all is done: nothing is run again
    np.testing.assert_array_equal(Attacker(data, asked, tmp_path).attack(quiet()).images, whole.images)


def test_a_damaged_or_foreign_checkpoint_is_not_taken_up(tmp_path):
    data, asked = known(), setting(options={"epochs": 1})
    whole = Attacker(data, asked, tmp_path).attack(quiet())
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1000])
    np.testing.assert_array_equal(Attacker(data, asked, tmp_path).attack(quiet()).images, whole.images)
    others = data.others.copy()
    others[0, 0, 0, 0] += 0.5
    keys = {
        bilevel._key(d, s)
        for d, s in [
            (data, asked),
            (replace(data, others=others), asked),
            (data, replace(asked, epsilon=0.2)),
            (replace(data, target=7), asked),
            (data, replace(asked, seed=3)),
        ]
    }
    assert len(keys) == 5
    assert file.stem in keys


def test_a_network_that_diverges_is_replaced_at_most_twice():
    hopeless = setting(options={"learning_rate": 1e30})
    with pytest.raises(
        InputError, match=r"3 networks diverged in epoch 0 .* lower smoothing.attack.learning_rate \(now 1e\+30\)"
    ):
        Attacker(known(), hopeless).attack(quiet())


def test_a_replaced_network_repeats_its_epoch(monkeypatch):
    data, fine = known(), setting(options={"epochs": 1})
    train = Surrogate.train
    seen = []

    def once_broken(self, images, labels, noise):
        train(self, images, labels, noise)
        seen.append(self)
        if len(set(map(id, seen))) == 1 and len(seen) > 3:
            self.weights = self.weights * float("nan")

    monkeypatch.setattr(Surrogate, "train", once_broken)
    attacker = Attacker(data, fine)
    poison = attacker.attack(quiet())
    assert poison.history["networks_diverged"].tolist() == [1]
    assert np.isfinite(poison.images).all()
    monkeypatch.setattr(Surrogate, "train", train)
    again = Attacker(data, fine)
    again.tries = 1
    again._restart()
    np.testing.assert_array_equal(again.attack(quiet()).images, poison.images)


def test_networks_trained_on_the_poison_have_smaller_radii_than_on_random_changes():
    """Victims from other seeds, on the test images of the class: what the attack is for."""
    images, labels = (DIGITS.x_train / 16).astype(np.float32), DIGITS.y_train
    held_out = np.flatnonzero(Stream("held out").uniform(len(labels)) < 0.2)
    data = attack_data(images, labels, held_out, target=8, num_classes=10, sha256="abc")
    options = {"epochs": 6, "restart": 6, "clean_batch": 100, "poison_batch": 16, "validation_batch": 30, "draws": 5}
    options |= {"weight_steps": 8, "vector_steps": 8, "learning_rate": 3e-3, "vector_rate": 1e-3}
    asked = setting(model="mlp", epsilon=0.15, options=options)
    keep = np.delete(np.arange(len(labels)), held_out)
    seen = torch.from_numpy((DIGITS.x_test[DIGITS.y_test == 8] / 16).astype(np.float32))
    draws = 0.25 * gaussian((len(seen), 100, 1, 8, 8), "test")

    def radius(poison: Poison, seed: int) -> float:
        victim = Surrogate(asked, (1, 8, 8), 10, 1000 + seed)
        x, y = torch.from_numpy(apply(images, labels, held_out, poison)[keep]), torch.from_numpy(labels[keep])
        for epoch in range(20):
            order = torch.from_numpy(Stream("victim", seed, epoch).permutations(1, len(y))[0])
            for rows in order.split(100):
                victim.train(x[rows], y[rows], 0.25 * gaussian((len(rows), 1, 8, 8), "victim", seed, epoch))
        return victim.upper(victim.weights.detach(), seen, torch.full((len(seen),), 8), draws).item()

    control = random_poison(data, epsilon=0.15, seed=0)
    poison = Attacker(data, asked).attack(quiet(6))
    for seed in range(2):
        assert radius(poison, seed) < 0.6 * radius(control, seed)
