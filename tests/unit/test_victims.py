"""Victims of randomized smoothing: against plain PyTorch, and each a function of its images and seed alone, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mithridate import device
from mithridate.attacks.poisons import apply, attack_data, random_poison
from mithridate.errors import InputError
from mithridate.models.registry import builder, initialise
from mithridate.noise import Normal
from mithridate.options.smoothing import GaussianOptions, MacerOptions, SmoothAdvOptions, SmoothingOptions
from mithridate.options.training import AugmentationOptions
from mithridate.streams import Stream
from mithridate.training import costs, plan
from mithridate.training.checkpoints import Checkpoints
from mithridate.training.family import Family, train_family, weight_hash
from mithridate.training.flags import FITTED, RETRAINED
from mithridate.training.procedure import NoisyLoss
from mithridate.training.recipe import Recipe, resolve
from mithridate.training.stack import Grouped, Single
from mithridate.training.subset import Subset
from mithridate.training.tile import TileTrainer
from mithridate.training.victims import noising, train_victims
from tests.unit.making import trained_members

SHAPE, CLASSES, N, SEED = (1, 8, 8), 4, 13, 0  # batches of 4: the last holds one image
IMAGES = Stream("victims").uniform(N, *SHAPE).astype(np.float32)
LABELS = (Stream("victims' labels").uniform(N) * CLASSES).astype(np.int64)
CONSTANTS = {
    "gaussian": GaussianOptions(),
    "smoothadv": SmoothAdvOptions(epsilon=0.5, steps=2, warmup_epochs=2),
    "macer": MacerOptions(draws=3, weight=2, beta=4, gamma=6),
}
STRATEGIES = [{"strategy": "loop"}, {"strategy": "grouped", "width": 2}]
HELD_OUT = np.arange(4)


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def recipe(procedure: str = "gaussian", model: str = "mlp", sigma: float = 0.25, constants=None, **options) -> Recipe:
    given = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "decay": "constant", "strategy": "loop"} | options
    training = SmoothingOptions().training.model_copy(update=given)
    noise = noising(procedure, sigma, constants or CONSTANTS[procedure])  # type: ignore[arg-type]
    how = {"model": model, "shape": SHAPE, "num_classes": CLASSES, "scale": 1.0, "seed": SEED, "device": "cpu"}
    return resolve(training, noising=noise, **how)


def member(number: int, images: np.ndarray = IMAGES) -> Subset:
    return Subset(number, images, LABELS, np.zeros(1), np.ones(1))


def hashes(family: Family) -> list[str]:
    return [weight_hash(family.member(position)) for position in range(len(family.subset_ids))]


# Against plain PyTorch ------------------------------------------------------------------------------------------------


def plainly_trained(r: Recipe, number: int) -> dict[str, Tensor]:
    """The straightforward way to train a victim, written with torch.optim.Adam, whose last batches are smaller."""
    how = r.noising
    assert how is not None
    net = initialise(builder(r.model), SHAPE, CLASSES, Stream("init", SEED, number, 0))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    images, labels, noises = torch.from_numpy(IMAGES), torch.from_numpy(LABELS), Normal("victim", SEED, number, 0)

    def search(x: Tensor) -> Tensor:
        net.eval()
        logits = net(x)
        net.train()
        return logits

    for step, rows in enumerate(plan.batches(N, r.options, Stream("batches", SEED, number, 0))):
        noise = how.sigma * noises.fill(torch.empty(4, how.draws, *SHAPE))[: (rows >= 0).sum()]
        x, y = images[rows[rows >= 0]], labels[rows[rows >= 0]]
        if how.procedure == "macer":
            loss = costs.macer_loss(net, x, y, noise, sigma=0.25, weight=2, beta=4, gamma=6)
        elif how.procedure == "smoothadv":
            radius = min(0.5, (step // 4 + 1) * 0.5 / 2)
            loss = costs.smoothadv_loss(net, x, y, noise[:, 0], epsilon=radius, steps=2, search=search)
        else:
            loss = costs.gaussian_loss(net, x, y, noise[:, 0])
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
    return net.state_dict()


@pytest.mark.parametrize("options", STRATEGIES, ids=["loop", "grouped"])
@pytest.mark.parametrize("model", ["small_cnn", "mlp", "smoothing_digits"])
@pytest.mark.parametrize("procedure", CONSTANTS)
def test_victims_are_those_of_torch_optim(procedure, model, options):
    """Running statistics too: SmoothAdv's search leaves them alone, padding and noises count as they should."""
    r = recipe(procedure, model, **options)
    family = train_victims(IMAGES, LABELS, 3, r)
    for number in range(3):
        expected = plainly_trained(r, number)
        for name, tensor in family.member(number).items():
            np.testing.assert_allclose(tensor, expected[name].numpy(), atol=1e-5, err_msg=name)


def test_the_radius_of_smoothadv_grows_over_the_warm_up():
    stack = Single(initialise(builder("mlp"), SHAPE, CLASSES, Stream("x")), False)
    for warmup, radii in ((4, [0.25, 0.5, 0.75, 1, 1]), (0, [1, 1, 1, 1, 1])):
        how = noising("smoothadv", 0.25, SmoothAdvOptions(epsilon=1, warmup_epochs=warmup))
        loss = NoisyLoss(how, stack, 2, SHAPE, "cpu")
        loss.enter(0, "x")
        for epoch, radius in enumerate(radii):
            loss.lay_out(0, epoch)
            assert loss.epsilon.tolist() == [[radius]]


def test_grouped_batchnorm_rests_in_evaluation():
    members = [initialise(builder("small_cnn"), SHAPE, CLASSES, Stream("norm", slot)) for slot in range(2)]
    stack = Grouped(members[0], 2, False).eval()
    x = torch.rand(2, 5, *SHAPE)
    for slot, net in enumerate(members):
        net(torch.rand(20, *SHAPE) * (slot + 1))  # statistics of its own
        net.eval()
        stack.load(slot, net)
    before = [stack.state(slot) for slot in range(2)]
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    for given in (None, mask):
        for slot, net in enumerate(members):
            torch.testing.assert_close(stack(x, given)[slot], net(x[slot]))
    for slot in range(2):
        assert all(torch.equal(tensor, before[slot][name]) for name, tensor in stack.state(slot).items())


# A function of images and seed alone ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", STRATEGIES, ids=["loop", "grouped"])
@pytest.mark.parametrize("procedure", CONSTANTS)
def test_a_victim_depends_on_no_other_and_on_no_global_state(procedure, options):
    r = recipe(procedure, "small_cnn", **options)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    three = hashes(train_victims(IMAGES, LABELS, 3, r))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(set(three)) == 3
    torch.manual_seed(2)
    assert hashes(train_victims(IMAGES, LABELS, 1, r)) == three[:1]
    assert hashes(train_family([member(1)], r)) == three[1:2]
    neighbours = train_family([member(0, 1 - IMAGES), member(1), member(2, 1 - IMAGES)], r)
    assert hashes(neighbours)[1] == three[1]
    assert not {hashes(neighbours)[0], hashes(neighbours)[2]} & set(three)


@pytest.mark.parametrize("options", STRATEGIES, ids=["loop", "grouped"])
@pytest.mark.parametrize("procedure", CONSTANTS)
def test_twins_start_from_the_same_weights_batches_and_noise(procedure, options, monkeypatch):
    seen: list[list[Tensor]] = []
    call = NoisyLoss.__call__

    def spied(self, images, labels, mask, bf16):
        tensors = *self.stack.state(0).values(), labels, self.noise, self.epsilon
        seen.append([tensor.clone() for tensor in tensors])
        return call(self, images, labels, mask, bf16)

    monkeypatch.setattr(NoisyLoss, "__call__", spied)
    monkeypatch.setattr("mithridate.training.family.check_isolation", lambda recipe, build, dtype: None)
    r = recipe(procedure, **options)
    known = attack_data(IMAGES, LABELS, HELD_OUT, target=2, num_classes=CLASSES, sha256="abc")
    poisoned = apply(IMAGES, LABELS, HELD_OUT, random_poison(known, epsilon=0.1, seed=0))
    clean, other = (hashes(train_victims(images, LABELS, 2, r)) for images in (IMAGES, poisoned))
    assert not set(clean) & set(other)
    half = len(seen) // 2
    starts = [run[0] for run in (seen[:half], seen[half:])]
    assert all(torch.equal(a, b) for a, b in zip(*starts, strict=True))
    for before, after in zip(seen[:half], seen[half:], strict=True):  # at every step: batches, noise, radius
        assert all(torch.equal(a, b) for a, b in zip(before[-3:], after[-3:], strict=True))
    still = apply(IMAGES, LABELS, HELD_OUT, random_poison(known, epsilon=0.0, seed=0))
    assert hashes(train_victims(still, LABELS, 2, r)) == clean


# Checkpoints ----------------------------------------------------------------------------------------------------------


def test_whatever_changes_a_victim_changes_its_key():
    def key(r: Recipe, boost: int = 0) -> str:
        return Checkpoints(None, r).key(member(0), boost)

    recipes = [recipe(), recipe(sigma=0.5), replace(recipe(), noising=None), replace(recipe(), seed=4)]
    recipes += [recipe(augmentation=AugmentationOptions()), recipe(model="smoothing_digits")]
    for procedure, changes in (
        ("smoothadv", {"epsilon": 1.0, "steps": 3, "warmup_epochs": 1}),
        ("macer", {"draws": 4, "weight": 1.0, "beta": 1.0, "gamma": 1.0}),
    ):
        own = CONSTANTS[procedure]
        recipes += [recipe(procedure)]
        recipes += [recipe(procedure, constants=own.model_copy(update={k: v})) for k, v in changes.items()]
    keys = [key(r) for r in recipes] + [key(recipe(), boost=1)]
    assert len(set(keys)) == len(keys)
    assert key(recipe()) == key(recipe())


@pytest.mark.parametrize("procedure", CONSTANTS)
def test_finished_victims_are_taken_over_with_the_same_bits(procedure, tmp_path, monkeypatch):
    r = recipe(procedure)
    whole = hashes(train_victims(IMAGES, LABELS, 3, r))
    train_victims(IMAGES, LABELS, 2, r, checkpoints=tmp_path)
    trained = trained_members(monkeypatch)
    assert hashes(train_victims(IMAGES, LABELS, 3, r, checkpoints=tmp_path)) == whole
    assert trained == [2]


# Divergence -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", STRATEGIES, ids=["loop", "grouped"])
def test_only_a_victim_that_diverges_is_trained_again(options, monkeypatch, capsys):
    r = recipe(**options)
    whole = train_victims(IMAGES, LABELS, 3, r)
    again = train_family([member(1)], r, boost=2)
    steps = TileTrainer.steps

    def broken_twice(self, slots):
        states, losses = yield from steps(self, slots)
        for subset, state in zip(slots, states, strict=True):
            if subset is not None and subset.number == 1 and self.boost < 2:
                next(iter(state.values())).fill_(torch.nan)
        return states, losses

    monkeypatch.setattr(TileTrainer, "steps", broken_twice)
    monkeypatch.setattr("mithridate.training.family.check_isolation", lambda recipe, build, dtype: None)
    family = train_victims(IMAGES, LABELS, 3, r)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"victims [1] diverged: trained again from other random numbers ({number})" for number in (1, 2)]
    assert hashes(family) == [hashes(whole)[0], hashes(again)[0], hashes(whole)[2]]
    assert family.flags.tolist() == [FITTED, RETRAINED, FITTED]
    assert family.subset_ids.tolist() == [0, 1, 2]
    assert family.losses.tolist() == [whole.losses[0], again.losses[0], whole.losses[2]]
    np.testing.assert_array_equal(family.keys, np.stack([whole.keys[0], again.keys[0], whole.keys[2]]))


@pytest.mark.parametrize("procedure", CONSTANTS)
def test_a_hopeless_training_is_refused_after_three_tries(procedure, capsys):
    with pytest.raises(InputError, match=r"smoothing\.training: .* 3 times; lower its learning_rate \(now 1e\+30\)"):
        train_victims(IMAGES, LABELS, 2, recipe(procedure, learning_rate=1e30))
    assert capsys.readouterr().out.count("victims [0, 1] diverged") == 2


def silent(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
    """A user's own network that no retry can train."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, num_classes))
    nn.init.constant_(net[1].bias, torch.nan)
    return net


def test_a_network_that_is_never_finite_is_refused():
    with pytest.raises(InputError, match=r"smoothing\.training"):
        train_victims(IMAGES, LABELS, 1, recipe(model="tests.unit.test_victims:silent"))
