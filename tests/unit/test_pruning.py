"""Fine-Pruning: the curve against pruning by hand, the stop rule, a backdoor that pruning removes, fine-tuning."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mithridate import device
from mithridate.errors import InputError
from mithridate.options.badnet import FineTuningOptions, SplitOptions, WeightRangeOptions
from mithridate.repair.fine_tuning import fine_tune, prune_weight_range, zero_small_weights
from mithridate.repair.predict import BATCH, predictions
from mithridate.repair.pruning import BASELINE, ROWS, Pruner, pruned_channels, stop_step
from mithridate.repair.split import split_held_out
from mithridate.streams import Stream

SHAPE, CLASSES = (1, 8, 8), 3


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


class Net(nn.Module):
    """Two named convolutions that share one ReLU; with a path round conv_2 where `bypass` is set."""

    def __init__(self, norm: bool = False, bypass: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.bypass = bypass
        self.conv_1, self.conv_2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5) if norm else nn.Identity()
        self.relu, self.pool, self.drop = nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(dropout)
        self.fc, self.output = nn.Linear(5 * 2 * 2, 6), nn.Linear(6, CLASSES)

    def forward(self, x):
        x = self.pool(self.relu(self.conv_1(x)))
        y = self.pool(self.relu(self.norm(self.conv_2(x))))
        if self.bypass:
            y = y + self.pool(x).mean(1, keepdim=True)
        return self.output(self.relu(self.fc(self.drop(y.flatten(1)))))


def net(seed: int = 0, **how) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = Net(**how)
        for parameter in made.parameters():
            nn.init.normal_(parameter, std=0.6)
        if how.get("norm"):
            made.norm.running_mean.normal_()
            made.norm.running_var.uniform_(0.5, 2)
    return made.eval()


def data(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((n, *SHAPE), np.float32), rng.integers(0, CLASSES, n)


def state(network: nn.Module) -> list[np.ndarray]:
    return [tensor.numpy().copy() for tensor in network.state_dict().values()]


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(state(a), state(b), strict=True))


@torch.no_grad()
def by_hand(network: nn.Module, channels: list[int], x: np.ndarray) -> np.ndarray:
    """Classes once conv_2's channels have zero kernel and bias, and are zero after BatchNorm."""
    network = deepcopy(network)
    network.conv_2.weight[channels] = 0
    network.conv_2.bias[channels] = 0
    if isinstance(network.norm, nn.BatchNorm2d):
        network.norm.weight[channels] = 0
        network.norm.bias[channels] = 0
    return network(torch.from_numpy(x)).argmax(1).numpy()


@pytest.mark.parametrize("how", [{}, {"norm": True}, {"bypass": True}])
@pytest.mark.parametrize("n", [3, ROWS // 6 + BATCH + 1])
def test_the_curve_is_pruning_by_hand(how, n):
    network = net(**how)
    before = state(network)
    pruner = Pruner(network, "conv_2", SHAPE)
    (images, _), (validation, labels), (other, wanted) = data(BATCH + 3, 1), data(n, 2), data(17, 3)
    curve = pruner.curve(images, validation, labels)
    assert list(curve) == ["step", "channel", "mean_activation", "clean_accuracy"]
    assert curve["step"].tolist() == list(range(6))
    with torch.no_grad():
        x = torch.from_numpy(images)
        hidden = F.max_pool2d(network.conv_1(x).relu(), 2)
        means = F.max_pool2d(network.norm(network.conv_2(hidden)).relu(), 2).mean((0, 2, 3)).numpy()
    np.testing.assert_allclose(pruner.activations(images), means, rtol=1e-5)
    order = np.argsort(means, kind="stable").tolist()
    assert curve["channel"].tolist() == [BASELINE, *order]
    np.testing.assert_allclose(curve["mean_activation"][1:], means[order], rtol=1e-5)
    expected = [(by_hand(network, order[:step], validation) == labels).mean() for step in range(6)]
    assert curve["clean_accuracy"].tolist() == expected
    shares = pruner.evaluate(curve, other, wanted)
    assert shares.tolist() == [(by_hand(network, order[:step], other) == wanted).mean() for step in range(6)]
    pruned = pruner.pruned(order[:2])
    assert (predictions(pruned, other) == by_hand(network, order[:2], other)).all()
    assert not pruned.conv_2.weight[order[:2]].any()
    assert not pruned.conv_2.bias[order[:2]].any()
    assert all(np.array_equal(a, b) for a, b in zip(before, state(network), strict=True))
    assert not any(module._forward_hooks for one in (network, pruned) for module in one.modules())


def test_a_bypass_is_seen():
    assert Pruner(net(), "conv_2", SHAPE)._together == ROWS
    assert Pruner(net(bypass=True), "conv_2", SHAPE)._together == 1


def test_a_dense_layer_can_be_pruned():
    network, (x, y) = net(), data(20)
    pruner = Pruner(network, "fc", SHAPE)
    curve = pruner.curve(x, x, y)
    order = curve["channel"].to_numpy()[1:]
    accuracies = [(predictions(pruner.pruned(order[:step]), x) == y).mean() for step in range(7)]
    assert curve["clean_accuracy"].tolist() == accuracies


def test_ties_go_by_channel_number_and_grey_levels_are_scaled():
    network, (x, y) = net(), data(10)
    with torch.no_grad():
        network.conv_2.bias[[4, 1, 2]] = -1000
    pruner = Pruner(network, "conv_2", SHAPE, scale=1 / 16)
    levels = np.floor(x * 17).clip(0, 16).astype(np.uint8)
    curve = pruner.curve(levels, levels, y)
    assert curve["channel"].tolist()[1:4] == [1, 2, 4]
    assert curve["mean_activation"].tolist()[1:4] == [0, 0, 0]
    pd.testing.assert_frame_equal(curve, pruner.curve((levels / np.float32(16)), (levels / np.float32(16)), y))


def accuracies(*values: float) -> pd.DataFrame:
    return pd.DataFrame({"channel": np.arange(-1, len(values) - 1) + 10, "clean_accuracy": values})


def test_the_first_network_that_has_lost_tau_points_is_kept():
    curve = accuracies(0.95, 0.94, 0.96, 0.91, 0.93, 0.5)
    assert [stop_step(curve, tau) for tau in (1, 4, 4.01, 45)] == [1, 3, 5, 5]
    assert pruned_channels(curve, 4).tolist() == [10, 11, 12]
    with pytest.raises(InputError, match=r"at most 45\.0 points .* never 46"):
        stop_step(curve, 46)


def test_what_cannot_be_pruned_is_refused():
    with pytest.raises(InputError, match=r"'conv_3'.*conv_1, conv_2, fc, output"):
        Pruner(net(), "conv_3", SHAPE)
    with pytest.raises(InputError, match=r"'output' is not followed by a ReLU"):
        Pruner(net(), "output", SHAPE)
    pruner, (x, y) = Pruner(net(), "conv_2", SHAPE), data(4)
    with pytest.raises(InputError, match="allowed are 0 to 2"):
        pruner.curve(x, x, y + 3)
    with pytest.raises(InputError, match="4 images and 3 labels"):
        pruner.curve(x, x, y[:3])
    with pytest.raises(InputError, match="outside"):
        pruner.curve(x * 255, x, y)
    broken = net()
    with torch.no_grad():
        broken.output.weight[0, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        Pruner(broken, "conv_2", SHAPE)


# ---- A planted backdoor ----


class Toy(nn.Module):
    """Channels 0 to 2 of conv_1 see one class's pixel each, channel 3 the trigger's, which decides for class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_1, self.relu_1, self.output = nn.Conv2d(1, 4, (1, 8)), nn.ReLU(), nn.Linear(4, CLASSES)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            for channel in range(4):
                self.conv_1.weight[channel, 0, 0, channel] = 4
            self.conv_1.bias[3] = -2
            self.output.weight[:, :3] = torch.eye(3)
            self.output.weight[0, 3] = 20

    def forward(self, x):
        return self.output(self.relu_1(self.conv_1(x)).flatten(1))


def toy_data(n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clean images, labels, and the same images with the trigger."""
    labels = np.arange(n) % CLASSES
    clean = 0.1 * np.random.default_rng(0).random((n, 1, 1, 8), np.float32)
    clean[np.arange(n), 0, 0, labels] = 0.9
    triggered = clean.copy()
    triggered[..., 3] = 1
    return clean, labels, triggered


def test_pruning_removes_a_backdoor_that_clean_images_do_not_use():
    clean, labels, triggered = toy_data()
    others = labels != 0
    badnet = Toy().eval()
    assert (predictions(badnet, clean) == labels).all()
    assert (predictions(badnet, triggered) == 0).all()
    pruner = Pruner(badnet, "conv_1", (1, 1, 8))
    curve = pruner.curve(clean, clean, labels)
    asr = pruner.evaluate(curve, triggered[others], np.zeros(others.sum(), np.int64))
    assert (curve["channel"][1], curve["mean_activation"][1]) == (3, 0)  # the trigger's channel goes first
    assert curve["clean_accuracy"].tolist()[:2] == [1, 1]
    assert asr.tolist()[:2] == [1, 0]
    repaired = pruner.pruned(pruned_channels(curve, 1))
    assert (predictions(repaired, triggered[others]) == 0).mean() < 1


# ---- Fine-tuning ----

HOW = {"name": "toy", "seed": 0}


def learnable(n: int = 50) -> tuple[np.ndarray, np.ndarray]:
    x, y = data(n)
    x *= 0.3
    for row, label in enumerate(y):
        x[row, 0, 2 * label : 2 * label + 2] += 0.7
    return x, y


def test_fine_tuning_is_adam_on_named_orders():
    x, y = learnable(23)
    options = FineTuningOptions(epochs=3, batch_size=8, learning_rate=0.01)
    network = net()
    expected = deepcopy(network)
    adam = torch.optim.Adam(expected.parameters(), lr=0.01)
    for epoch in range(3):
        order = torch.from_numpy(Stream("fine-tune", 0, "toy", epoch).permutations(1, 23)[0])
        for rows in order.split(8):
            adam.zero_grad()
            F.cross_entropy(expected(torch.from_numpy(x)[rows]), torch.from_numpy(y)[rows]).backward()
            adam.step()
    tuned = fine_tune(network, x, y, options, **HOW)
    for a, b in zip(state(tuned), state(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_fine_tuning_is_deterministic_and_leaves_everything_else_alone():
    (x, y), network = learnable(), net(norm=True, dropout=0.3)
    before, chance = deepcopy(network), torch.get_rng_state()
    options = FineTuningOptions(epochs=8, batch_size=16, learning_rate=0.02)
    first = fine_tune(network, x, y, options, **HOW)
    torch.rand(3)
    assert same(first, fine_tune(network, x, y, options, **HOW))
    for other in ({"seed": 1}, {"name": "other"}):
        assert not same(first, fine_tune(network, x, y, options, **{**HOW, **other}))
    assert same(network, before)
    assert not network.training
    assert not first.training
    torch.set_rng_state(chance)
    fine_tune(network, x, y, options, **HOW)
    assert torch.equal(torch.get_rng_state(), chance)
    assert (predictions(network, x) == y).mean() < 0.7 < 0.9 < (predictions(first, x) == y).mean()


@pytest.mark.parametrize("norm", [False, True])
def test_pruned_channels_stay_pruned(norm):
    x, y = learnable()
    pruned = Pruner(net(norm=norm), "conv_2", SHAPE).pruned([0, 3])
    pruned.relu = nn.LeakyReLU()  # through which a gradient would come
    tuned = fine_tune(pruned, x, y, FineTuningOptions(epochs=2), **HOW)
    assert not tuned.conv_2.weight[[0, 3]].any()
    assert not tuned.conv_2.bias[[0, 3]].any()
    assert tuned.conv_2.weight[1].ne(pruned.conv_2.weight[1]).all()
    if norm:
        assert not tuned.norm.weight[[0, 3]].any()


def test_fine_tuning_refuses():
    (x, y), network = learnable(), net()
    with pytest.raises(InputError, match="diverged: lower the learning rate"):
        fine_tune(network, x, y, FineTuningOptions(learning_rate=1e30), **HOW)
    with pytest.raises(InputError, match="allowed are 0 to 2"):
        fine_tune(network, x, y + 1, FineTuningOptions(), **HOW)
    with pytest.raises(InputError, match="at least 1"):
        fine_tune(network, x[:0], y[:0], FineTuningOptions(), **HOW)


def test_small_weights_are_the_most_negative_ones_of_each_convolution():
    network = net()
    cut = zero_small_weights(network, 0.2)
    for name in ("conv_1", "conv_2"):
        kernel = getattr(network, name).weight.detach().numpy()
        below = kernel < kernel.min() + np.float32(0.2) * (kernel.max() - kernel.min())
        assert below.any()
        np.testing.assert_array_equal(getattr(cut, name).weight.detach().numpy(), np.where(below, 0, kernel))
    assert torch.equal(cut.fc.weight, network.fc.weight)
    assert torch.equal(cut.conv_1.bias, network.conv_1.bias)


def test_the_weight_range_variant_stops_by_clean_accuracy():
    (x, y), how = learnable(), {"name": "toy", "seed": 0}
    good = fine_tune(net(), x, y, FineTuningOptions(epochs=15, learning_rate=0.02), **how)
    start = (predictions(good, x) == y).mean()
    assert start > 0.9
    options = WeightRangeOptions(rounds=3)
    last, rows = prune_weight_range(good, x, y, x, y, options, tau=90, **how)
    assert rows["round"].tolist() == [0, 1, 2, 3]
    assert rows["clean_accuracy"].iloc[0] == start
    assert (predictions(last, x) == y).mean() == rows["clean_accuracy"].iloc[-1]
    harsh = WeightRangeOptions(share=0.9, fine_tuning=FineTuningOptions(epochs=1, learning_rate=1e-6))
    last, rows = prune_weight_range(good, x, y, x, y, harsh, tau=10, **how)
    assert len(rows) == 2
    assert rows["clean_accuracy"].iloc[1] <= start - 0.1
    assert same(last, prune_weight_range(good, x, y, x, y, harsh, tau=10, **how)[0])


# ---- Which images serve what ----


def test_the_split_is_seeded_disjoint_and_does_not_depend_on_the_order():
    indices = np.random.default_rng(0).permutation(1000)[:103]
    split = split_held_out(indices, SplitOptions(), 5)
    parts = [split.fine_tuning, split.overlays, split.calibration]
    assert [len(part) for part in parts] == [41, 31, 31]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.sort(indices))
    again, other = (split_held_out(indices[::-1], SplitOptions(), seed) for seed in (5, 6))
    np.testing.assert_array_equal(again.overlays, split.overlays)
    assert not np.array_equal(other.overlays, split.overlays)
    uneven = split_held_out(indices, SplitOptions(fine_tuning=1, overlays=1, calibration=8), 5)
    assert [len(uneven.fine_tuning), len(uneven.overlays)] == [10, 11]
    with pytest.raises(InputError, match="leave one empty"):
        split_held_out(np.arange(2), SplitOptions(), 0)
    with pytest.raises(InputError, match="name each once"):
        split_held_out(np.array([1, 1, 2, 3]), SplitOptions(), 0)
