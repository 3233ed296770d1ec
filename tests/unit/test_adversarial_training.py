"""Robust networks: Goodfellow training against torch.optim, ART's trainer, both reproducible and robust."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from mithridate import device
from mithridate.adversarial.adversarial_training import train_robust
from mithridate.adversarial.gradient_attacks import Fgsm, Pgd, attack
from mithridate.errors import InputError
from mithridate.options.dgn import AdversarialTrainingOptions, GeneratorOptions, GradientAttackOptions
from mithridate.progress import Progress
from mithridate.repair.predict import predictions
from mithridate.streams import Stream

SHAPE, CLASSES, EPSILON = (1, 4, 4), 3, 0.12
HOW = {"epsilon": EPSILON, "name": "fgsm", "seed": 0}
GF = AdversarialTrainingOptions(adv_num_epochs=3, adv_batch_size=8, adv_learning_rate=0.01)


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def data(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images with a row that is brighter, which is their class."""
    rng = np.random.default_rng(seed)
    x, y = 0.6 * rng.random((n, *SHAPE), np.float32), rng.integers(0, CLASSES, n)
    x[np.arange(n), 0, y] += 0.4
    return x, y


def fresh(seed: int = 0, dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(16, CLASSES)]
        return nn.Sequential(*layers)


def by_art(attacks: str = "fgsm", **changed) -> GradientAttackOptions:
    how = {"adv_num_epochs": 6, "adv_batch_size": 16, "adv_learning_rate": 0.01}
    how |= {"eps_steps_pgd": 0.05, "max_iterations_pgd": 6} if attacks == "pgd" else {}
    return GradientAttackOptions(attacks=attacks, adv_training_type="default", **{**how, **changed})


def state(network: nn.Module) -> list[np.ndarray]:
    return [tensor.numpy().copy() for tensor in network.state_dict().values()]


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(state(a), state(b), strict=True))


@pytest.mark.parametrize("whole", [True, False])
def test_goodfellow_training_is_adam_on_named_orders(whole):
    (x, y), rng = data(23), np.random.default_rng(1)
    rows = np.arange(23) if whole else rng.permutation(23)[:9]
    made = np.clip(x[rows] + rng.uniform(-0.1, 0.1, x[rows].shape), 0, 1).astype(np.float32)
    changed = {"adv_ratio": 0.3, "adv_momentum": 0.7, "adv_weight_decay": 0.01, "adv_decay_step": 2}
    options = GF.model_copy(update={**changed, "adv_decay_rate": 0.5})
    expected = fresh()
    adam = torch.optim.Adam(expected.parameters(), lr=0.01, betas=(0.7, 0.999), weight_decay=0.01)
    falls = torch.optim.lr_scheduler.StepLR(adam, 2, 0.5)
    partner = dict(zip(rows.tolist(), made, strict=True))
    for epoch in range(3):
        order = Stream("adversarial training", 0, "fgsm", epoch).permutations(1, 23)[0]
        for batch in np.split(order, [8, 16]):
            loss = 0.7 * F.cross_entropy(expected(torch.from_numpy(x[batch])), torch.from_numpy(y[batch]))
            for row in filter(partner.__contains__, batch.tolist()):
                one = F.cross_entropy(
                    expected(torch.from_numpy(partner[row])[None]), torch.from_numpy(y[row : row + 1])
                )
                loss = loss + 0.3 * 23 / len(rows) * one / len(batch)
            adam.zero_grad()
            loss.backward()
            adam.step()
            falls.step()
    trained = train_robust(fresh(), x, y, made, options, **HOW, rows=None if whole else rows)
    for a, b in zip(state(trained), state(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_both_kinds_are_deterministic_and_leave_everything_else_alone():
    x, y = data(50)
    x.flags.writeable = False
    made = np.clip(x + 0.1, 0, 1)
    for options, adversarial in ((GF, made), (by_art("pgd", adv_num_epochs=2), None)):
        network, lines = fresh(dropout=0.3), []
        before = deepcopy(network)
        np.random.seed(5)  # noqa: NPY002
        torch.manual_seed(5)
        chance = np.random.get_state()[1:3], torch.get_rng_state()  # noqa: NPY002
        progress = Progress("training", options.adv_num_epochs, lines.append)
        first = train_robust(network, x, y, adversarial, options, **HOW, progress=progress)
        assert progress.done == options.adv_num_epochs
        after = np.random.get_state()[1:3]  # noqa: NPY002
        assert np.array_equal(chance[0][0], after[0])
        assert chance[0][1] == after[1]
        assert torch.equal(chance[1], torch.get_rng_state())
        assert same(network, before)
        assert not same(network, first)
        assert not first.training
        assert not any(module._forward_hooks for module in [*network.modules(), *first.modules()])
        torch.rand(3)
        assert same(first, train_robust(network, x, y, adversarial, options, **HOW))
        for other in ({"seed": 1}, {"name": "other"}):
            assert not same(first, train_robust(network, x, y, adversarial, options, **{**HOW, **other}))


def test_training_makes_robust():
    """gf against the images that it was trained on, of the undefended network; default against attacks on itself."""
    (x, y), (test, truth), pgd = data(300, 1), data(200, 2), Pgd(0.05, 8, 1)
    gf = GF.model_copy(update={"adv_num_epochs": 10})
    plain = train_robust(fresh(), x, y, x, gf.model_copy(update={"adv_ratio": 0.0}), **HOW)
    hit = attack(plain, test, truth, pgd, epsilon=EPSILON, seed=0)

    def accuracy(network: nn.Module, images: np.ndarray) -> float:
        return (predictions(network, images, scale=1) == truth).mean()

    for attacks, how in (("fgsm", Fgsm()), ("pgd", pgd)):
        stored = train_robust(fresh(), x, y, attack(plain, x, y, how, epsilon=EPSILON, seed=0), gf, **HOW)
        own = train_robust(fresh(), x, y, None, by_art(attacks, adv_num_epochs=10), **HOW)
        assert accuracy(stored, hit) > accuracy(plain, hit) + 0.1
        own_hit = attack(own, test, truth, pgd, epsilon=EPSILON, seed=0)
        assert accuracy(own, own_hit) > accuracy(plain, hit) + 0.1
        assert min(accuracy(stored, test), accuracy(own, test)) > 0.85


def test_arts_trainer_heeds_the_options():
    x, y = data(32)
    start = train_robust(fresh(), x, y, None, by_art(adv_batch_size=32, adv_num_epochs=1), **HOW)
    frozen = by_art(adv_batch_size=32, adv_num_epochs=4, adv_decay_step=1, adv_decay_rate=1e-9)
    halted = train_robust(fresh(), x, y, None, frozen, **HOW)
    for a, b in zip(state(start), state(halted), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)  # no step after the first
    usual = train_robust(fresh(), x, y, None, by_art(), **HOW)
    for changed in ({"adv_ratio": 1.0}, {"adv_momentum": 0.5}, {"adv_weight_decay": 0.1}, {"attacks": "pgd"}):
        assert not same(usual, train_robust(fresh(), x, y, None, by_art(**changed), **HOW))
    assert not same(usual, train_robust(fresh(), x, y, None, by_art(), **{**HOW, "epsilon": 0.01}))


def test_what_does_not_fit_is_refused():
    x, y = data(20)
    made, rows = x[:5].copy(), np.arange(5)
    with pytest.raises(InputError, match=r"fgsm diverged: lower its adv_learning_rate \(now 1e\+30\)"):
        train_robust(fresh(), x, y, x, GF.model_copy(update={"adv_learning_rate": 1e30}), **HOW)
    with pytest.raises(InputError, match="fgsm diverged"):
        train_robust(fresh(), x, y, None, by_art(adv_learning_rate=1e30), **HOW)
    for options, adversarial in ((GF, made), (by_art(), None)):
        with pytest.raises(InputError, match="allowed are 0 to 2"):
            train_robust(fresh(), x, y + 1, adversarial, options, **HOW)
        with pytest.raises(InputError, match="20 images and 19 labels"):
            train_robust(fresh(), x, y[:19], adversarial, options, **HOW)
    for wrong in (rows[:4], rows + 16, rows - 1, rows // 2):
        with pytest.raises(InputError, match="one of 20 originals each"):
            train_robust(fresh(), x, y, made, GF, **HOW, rows=wrong)
    with pytest.raises(InputError, match="no adversarial image"):
        train_robust(fresh(), x, y, made[:0], GF, **HOW)
    for strange in (made.astype(np.float64), made[:, :, :3]):
        with pytest.raises(InputError, match="of one size"):
            train_robust(fresh(), x, y, strange, GF, **HOW, rows=rows)
    with pytest.raises(InputError, match="gf trains on stored"):
        train_robust(fresh(), x, y, None, GF, **HOW)
    with pytest.raises(InputError, match="ε above 0"):
        train_robust(fresh(), x, y, None, by_art(), **{**HOW, "epsilon": 0})
    with pytest.raises(InputError, match="needs fgsm or pgd"):
        train_robust(fresh(), x, y, None, AdversarialTrainingOptions(adv_training_type="default"), **HOW)
    with pytest.raises(ValidationError, match="adv_ratio"):
        by_art(adv_ratio=0)
    with pytest.raises(ValidationError, match="generators cannot"):
        GeneratorOptions(custom_loss="nce", adv_training_type="default")
