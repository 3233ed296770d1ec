"""Isolation, determinism and totality of the family trainer, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mithridate import device
from mithridate.errors import InputError
from mithridate.models.registry import builder, class_logits, initialise
from mithridate.options.training import AugmentationOptions, TrainingOptions
from mithridate.streams import Stream
from mithridate.training import plan
from mithridate.training.augment import augment
from mithridate.training.family import Family, Subset, train_family, weight_hash
from mithridate.training.flags import DIVERGED, EMPTY, FITTED, UNFITTABLE
from mithridate.training.recipe import Recipe, most_slices, resolve
from mithridate.training.slices import read_known, read_slice, read_slices, slice_members, write_slice
from mithridate.training.stack import MaskedNormalise
from mithridate.training.subset import Rows
from tests.unit.making import trained_members

SHAPE, CLASSES = (1, 8, 8), 4


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def recipe(model: str = "small_cnn", **options) -> Recipe:
    defaults = {"steps": 6, "batch_size": 4, "strategy": "loop"}
    if "epochs" in options:
        defaults["steps"] = None
    chosen = TrainingOptions(**{**defaults, **options})
    return resolve(chosen, model=model, shape=SHAPE, num_classes=CLASSES, scale=1 / 16, seed=3, device="cpu")


def subset(number: int, size: int, salt: int = 0) -> Subset:
    stream = Stream("test", number, salt)
    images = (stream.uniform(size, *SHAPE) * 17).astype(np.uint8) if size else np.zeros((0, *SHAPE), np.uint8)
    labels = (stream.uniform(size) * CLASSES).astype(np.int64) if size else np.zeros(0, np.int64)
    return Subset(number, images, labels, np.array([0.4]), np.array([0.25]))


SIZES = (9, 11, 4, 13, 1, 7, 10, 6)
FAMILY = [subset(number, size) for number, size in enumerate(SIZES)]

STRATEGIES = [
    pytest.param({"strategy": "loop"}, id="loop"),
    pytest.param({"strategy": "loop", "epochs": 3}, id="loop-epochs"),
    pytest.param({"strategy": "loop", "precision": "bf16"}, id="loop-bf16"),
    pytest.param({"strategy": "grouped", "width": 3}, id="grouped"),
    pytest.param({"strategy": "grouped", "width": 3, "epochs": 3}, id="grouped-epochs"),
    pytest.param({"strategy": "grouped", "width": 5, "channels_last": False}, id="grouped-nchw"),
    pytest.param({"strategy": "grouped", "width": 3, "epochs": 3, "optimiser": "adam"}, id="grouped-adam"),
]


def hashes(family: Family) -> list[str]:
    return [weight_hash(family.member(position)) for position in range(len(family.subset_ids))]


POISONS = {
    "replaced": lambda s: subset(s.number, len(s.labels), salt=1),
    "emptied": lambda s: subset(s.number, 0),
    "shrunk": lambda s: replace(s, images=s.images[:2], labels=s.labels[:2]),
    "grown": lambda s: subset(s.number, 40, salt=2),
    "one black image": lambda s: replace(
        s, images=np.zeros((1, *SHAPE), np.uint8), labels=np.zeros(1, np.int64), std=np.array([1e-3])
    ),
    "diverging": lambda s: replace(s, mean=np.array([np.inf])),
}


@pytest.mark.parametrize("options", STRATEGIES)
def test_a_poisoned_partition_changes_no_other_member(options):
    clean = hashes(train_family(FAMILY, recipe(**options)))
    for name, poison in POISONS.items():
        poisoned = [poison(s) if s.number == 3 else s for s in FAMILY]
        after = hashes(train_family(poisoned, recipe(**options)))
        assert after[3] != clean[3], name
        assert after[:3] + after[4:] == clean[:3] + clean[4:], name


@pytest.mark.parametrize("options", STRATEGIES)
def test_slices_change_no_member(options):
    whole = train_family(FAMILY, recipe(**options))
    r = recipe(**options)
    tiles = -(-len(FAMILY) // r.width)
    for slices in range(1, tiles + 1):
        parts: list[str] = []
        for number in range(1, slices + 1):
            members = slice_members(len(FAMILY), r.width, f"{number}-of-{slices}")
            parts += hashes(train_family([FAMILY[m] for m in members], r))
        assert parts == hashes(whole)


def test_slices_cover_every_member_once_in_whole_tiles():
    for count, width in ((50, 5), (7, 3), (1, 5), (1200, 1)):
        for slices in {1, 2, -(-count // width)} & set(range(1, -(-count // width) + 1)):
            parts = [slice_members(count, width, f"{i}-of-{slices}") for i in range(1, slices + 1)]
            assert [m for part in parts for m in part] == list(range(count))
            assert all(part.start % width == 0 and len(part) for part in parts)
    with pytest.raises(InputError, match="at most 3 slices"):
        slice_members(7, 3, "1-of-4")


def test_no_more_slices_than_tiles_whatever_auto_chooses():
    for strategy in ("auto", "loop", "grouped"):
        for model in ("nin", "small_cnn", "mlp"):
            options = TrainingOptions(strategy=strategy)
            most = most_slices(50, options, model=model, device="cpu")
            for side in (8, 28, 32):
                shape = (1, side, side)
                r = resolve(options, model=model, shape=shape, num_classes=10, scale=1.0, seed=0, device="cpu")
                assert most <= -(-50 // r.width)
    assert most_slices(50, TrainingOptions(), model="nin", device="cpu") == 50


def test_streams_are_keyed_by_seed_subset_and_boost_alone():
    first, other = train_family(FAMILY[:3], recipe()), train_family(FAMILY[:3], recipe(), boost=1)
    assert not set(hashes(first)) & set(hashes(other))
    assert not set(hashes(first)) & set(hashes(train_family(FAMILY[:3], replace(recipe(), seed=4))))
    renumbered = train_family([replace(FAMILY[0], number=1)], recipe())
    assert hashes(renumbered)[0] not in hashes(first)
    same = recipe(one_seed_for_all=True)
    assert hashes(train_family([FAMILY[0]], same)) == hashes(train_family([replace(FAMILY[0], number=1)], same))


@pytest.mark.parametrize("options", [{}, {"epochs": 4}, {"epochs": 4, "decay": "step", "decay_epochs": [0, 2]}])
def test_grouped_agrees_with_the_loop_up_to_rounding(options):
    """Padded, masked batches of a tile mean the same as a loop's smaller last batches."""
    exact = {"augmentation": AugmentationOptions(), "learning_rate": 0.01, **options}
    loop = train_family(FAMILY, recipe(strategy="loop", **exact))
    grouped = train_family(FAMILY, recipe(strategy="grouped", width=3, **exact))
    for name, tensor in loop.tensors.items():
        np.testing.assert_allclose(grouped.tensors[name], tensor, atol=2e-4, err_msg=name)


def test_the_loop_agrees_with_torch_optim_and_native_layers():
    """The straightforward way to train the same member, written with torch.optim.SGD."""
    options = {
        "epochs": 3,
        "augmentation": AugmentationOptions(crop_padding=0, rotation=0, scaling=0),
        "decay": "step",
        "decay_epochs": [0],
    }
    r = recipe(**options, learning_rate=0.05, warmup=0, weight_decay=1e-3)
    ours = train_family([FAMILY[3]], r)
    net = initialise(builder("small_cnn"), SHAPE, CLASSES, Stream("init", 3, 3, 0))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.1)
    x = (torch.from_numpy(FAMILY[3].images).float() / 16 - 0.4) / 0.25
    y = torch.from_numpy(FAMILY[3].labels)
    order = plan.batches(13, r.options, Stream("batches", 3, 3, 0))
    for step, rows in enumerate(order):
        for group in optimiser.param_groups:
            group["lr"] = 0.05 * (0.2 if step // 4 > 0 else 1)
        rows = rows[rows >= 0]
        optimiser.zero_grad()
        loss_function(net(x[rows]), y[rows]).backward()
        optimiser.step()
    for name, tensor in net.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(ours.tensors[name][0], tensor.numpy(), atol=1e-5, err_msg=name)


def test_adam_agrees_with_torch_optim():
    options = {"epochs": 3, "augmentation": AugmentationOptions(crop_padding=0, rotation=0, scaling=0)}
    r = recipe(**options, optimiser="adam", learning_rate=0.01, warmup=0, decay="constant", weight_decay=1e-3)
    ours = train_family([FAMILY[3]], r)
    net = initialise(builder("small_cnn"), SHAPE, CLASSES, Stream("init", 3, 3, 0))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=1e-3)
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.1)
    x = (torch.from_numpy(FAMILY[3].images).float() / 16 - 0.4) / 0.25
    y = torch.from_numpy(FAMILY[3].labels)
    for rows in plan.batches(13, r.options, Stream("batches", 3, 3, 0)):
        rows = rows[rows >= 0]
        optimiser.zero_grad()
        loss_function(net(x[rows]), y[rows]).backward()
        optimiser.step()
    for name, tensor in net.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(ours.tensors[name][0], tensor.numpy(), atol=1e-4, err_msg=name)


def test_one_logit_stands_for_two_classes():
    """Cross-entropy of (0, z) is the binary cross-entropy of z."""
    labels = torch.tensor([0, 1, 1])
    z = torch.tensor([[-3.0], [0.2], [40.0]])
    binary = nn.functional.binary_cross_entropy_with_logits(z[:, 0], labels.float(), reduction="none")
    torch.testing.assert_close(nn.functional.cross_entropy(class_logits(z), labels, reduction="none"), binary)


def test_unchanged_members_are_taken_over_and_would_have_trained_the_same(tmp_path, monkeypatch):
    r = recipe(strategy="grouped", width=3)
    write_slice(tmp_path / "1-of-1.safetensors", train_family(FAMILY, r), r, {})
    known = read_known([tmp_path / "1-of-1.safetensors"])
    poisoned = [POISONS["replaced"](s) if s.number in (3, 6) else s for s in FAMILY]
    afresh = hashes(train_family(poisoned, r))
    trained = trained_members(monkeypatch)
    assert hashes(train_family(poisoned, r, known=known)) == afresh
    assert trained == [3, 6]
    trained.clear()
    other = train_family(poisoned, replace(r, seed=9), known=known)  # another recipe: nothing is taken over
    assert trained == list(range(len(FAMILY)))
    assert not set(hashes(other)) & set(afresh)


@pytest.mark.parametrize("options", STRATEGIES)
def test_images_read_when_needed_train_the_same(options):
    whole = np.concatenate([s.images for s in FAMILY])
    ends = np.cumsum(SIZES)
    lazy = [
        replace(s, images=Rows(whole, np.arange(end - len(s.labels), end))) for s, end in zip(FAMILY, ends, strict=True)
    ]
    assert hashes(train_family(lazy, recipe(**options))) == hashes(train_family(FAMILY, recipe(**options)))


def test_masked_batchnorm_has_the_gradient_of_batchnorm_on_the_kept_images():
    random = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, 2, 2, generator=random, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, generator=random, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, generator=random, dtype=torch.float64, requires_grad=True)
    target = torch.randn(4, 3, 2, 2, generator=random, dtype=torch.float64)
    keep = torch.tensor([1.0, 1, 1, 1, 0, 0], dtype=torch.float64)[:, None, None, None].expand(6, 3, 1, 1)
    count = torch.full((3,), 16.0, dtype=torch.float64)
    y, mean, var = MaskedNormalise.apply(x, keep, count, weight, bias, 1e-5)
    ours = torch.autograd.grad((y[:4] * target).sum(), (x, weight, bias))
    z = nn.functional.batch_norm(x[:4], None, None, weight, bias, True, eps=1e-5)
    native = torch.autograd.grad((z * target).sum(), (x, weight, bias))
    torch.testing.assert_close(y[:4], z)
    torch.testing.assert_close(ours, native)
    torch.testing.assert_close((mean, var), (x[:4].mean((0, 2, 3)), x[:4].var((0, 2, 3), unbiased=False)))


def test_published_learning_rates_and_batches():
    options = TrainingOptions(
        epochs=200,
        steps=None,
        batch_size=128,
        learning_rate=0.1,
        decay="step",
        decay_epochs=[60, 120, 160],
        warmup=0,
    )
    rates = plan.learning_rates(1000, options).reshape(200, 8)
    for epoch, rate in (
        (0, 0.1),
        (60, 0.1),
        (61, 0.02),
        (120, 0.02),
        (121, 0.004),
        (160, 0.004),
        (161, 0.0008),
        (199, 0.0008),
    ):
        np.testing.assert_allclose(rates[epoch], rate)
    order = plan.batches(1000, options, Stream("x")).reshape(200, -1)
    assert all(np.array_equal(np.sort(epoch[:1000]), np.arange(1000)) for epoch in order)
    assert (order[:, 1000:] == plan.PADDING).all()


def test_steps_are_full_batches_of_whole_passes():
    order = plan.batches(7, TrainingOptions(steps=20, batch_size=4), Stream("x"))
    assert order.shape == (20, 4)
    assert all(np.array_equal(np.sort(passed), np.arange(7)) for passed in order.ravel()[:77].reshape(11, 7))


def test_augmentation_numbers_stay_below_one_in_single_precision():
    """1 - 2**-53 rounds to 1, and a shift of 1 times the range would leave the image."""

    class Largest(Stream):
        def uniform(self, *shape: int) -> np.ndarray:
            return np.full(shape, 1 - 2.0**-53)

    (drawn,) = plan.numbers(1, 2, 2, Largest())
    assert drawn.dtype == np.float32
    assert drawn.max() < 1
    augment(torch.rand(2, 1, 8, 8), torch.from_numpy(drawn), AugmentationOptions(crop_padding=4, rotation=0, scaling=0))


@pytest.mark.parametrize("options", STRATEGIES)
def test_training_is_total(options):
    family = train_family(
        [subset(0, 5), subset(1, 0), replace(subset(2, 5), std=np.array([np.nan])), subset(3, 1)],
        recipe(**options),
    )
    assert family.flags.tolist() == [FITTED, EMPTY, DIVERGED, FITTED]
    assert all(not tensor[[1, 2]].any() for tensor in family.tensors.values())


def narrow(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
    """A user's own network that refuses a batch of one: BatchNorm over a single value."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * height * width, 5), nn.BatchNorm1d(5), nn.Linear(5, num_classes)
    )


def test_a_subset_the_network_refuses_gets_the_constant_classifier():
    r = recipe(model="tests.unit.test_training:narrow", epochs=2)
    family = train_family([subset(0, 8), subset(1, 1), subset(2, 5)], r)
    assert family.flags.tolist() == [FITTED, UNFITTABLE, UNFITTABLE]  # 5 = 4 + 1: the last batch is one image


def cumulative(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
    """A user's own network whose BatchNorm averages over all steps, so that it counts them."""
    norm = nn.BatchNorm2d(4, momentum=None)
    return nn.Sequential(nn.Conv2d(channels, 4, 3), norm, nn.Flatten(), nn.Linear(4 * 36, num_classes))


def dropout(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
    pixels = channels * height * width
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 20), nn.Dropout(), nn.Linear(20, num_classes))


class Remembering(nn.Module):
    """Keeps a running mean that its state does not show."""

    def __init__(self, pixels: int, num_classes: int) -> None:
        super().__init__()
        self.dense = nn.Linear(pixels, num_classes)
        self.register_buffer("seen", torch.zeros(pixels), persistent=False)

    def forward(self, x):
        x = x.flatten(1)
        self.seen.mul_(0.9).add_(x.detach().mean(0))
        return self.dense(x - self.seen)


def remembering(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
    return Remembering(channels * height * width, num_classes)


@pytest.mark.parametrize("model", ["cumulative", "dropout", "remembering"])
def test_counters_chance_and_hidden_state_are_a_members_own(model):
    r = recipe(model=f"tests.unit.test_training:{model}", epochs=2)
    clean = hashes(train_family(FAMILY[:3], r))
    assert hashes(train_family([POISONS["grown"](FAMILY[0]), *FAMILY[1:3]], r))[1:] == clean[1:]
    assert hashes(train_family(FAMILY[1:3], r)) == clean[1:]


def broken(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3, num_classes))


def headless(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, num_classes - 1))


def raising(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
    raise RuntimeError("boom")


def nothing(channels: int, height: int, width: int, num_classes: int) -> None:
    return None


@pytest.mark.parametrize(("name", "sentence"), [("raising", "RuntimeError: boom"), ("nothing", "not NoneType")])
def test_a_users_function_that_makes_no_network_is_named(name, sentence):
    with pytest.raises(InputError, match=sentence):
        train_family(FAMILY, recipe(model=f"tests.unit.test_training:{name}"))


def test_a_broken_architecture_is_an_error_not_a_flag():
    with pytest.raises(InputError, match="does not take 4 images"):
        train_family(FAMILY, recipe(model="tests.unit.test_training:broken"))
    with pytest.raises(InputError, match="must return logits"):
        train_family(FAMILY, recipe(model="tests.unit.test_training:headless"))
    with pytest.raises(InputError, match="cannot be imported"):
        train_family(FAMILY, recipe(model="tests.unit.nowhere:build"))
    with pytest.raises(InputError, match="grouped"):
        train_family(FAMILY, recipe(model="tests.unit.test_training:narrow", strategy="grouped"))


def test_finished_members_are_not_trained_again(tmp_path, monkeypatch):
    r = recipe(strategy="grouped", width=3)
    whole = hashes(train_family(FAMILY, r))
    train_family(FAMILY[:5], r, checkpoints=tmp_path)  # what was finished when the job was killed
    trained = trained_members(monkeypatch)
    assert hashes(train_family(FAMILY, r, checkpoints=tmp_path)) == whole
    assert trained == [5, 6, 7]


def test_checkpoints_are_for_exactly_this_work(tmp_path):
    train_family(FAMILY[:2], recipe(), checkpoints=tmp_path)
    count = len(list(tmp_path.rglob("*.safetensors")))
    assert count == 2
    for other in (recipe(learning_rate=0.3), replace(recipe(), seed=9), recipe(precision="bf16")):
        train_family(FAMILY[:1], other, checkpoints=tmp_path)
        count += 1
        assert len(list(tmp_path.rglob("*.safetensors"))) == count
    train_family([replace(FAMILY[0], labels=FAMILY[0].labels[::-1].copy())], recipe(), checkpoints=tmp_path)
    train_family([replace(FAMILY[0], std=FAMILY[0].std * 2)], recipe(), checkpoints=tmp_path)
    assert len(list(tmp_path.rglob("*.safetensors"))) == count + 2


def test_a_damaged_checkpoint_is_trained_anew(tmp_path):
    whole = hashes(train_family(FAMILY[:2], recipe(), checkpoints=tmp_path))
    for file in tmp_path.rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-7])
    assert hashes(train_family(FAMILY[:2], recipe(), checkpoints=tmp_path)) == whole


def test_isolation_check_catches_mixing(monkeypatch):
    from mithridate.training import stack

    forward = stack.GroupedConv.forward
    monkeypatch.setattr(stack.GroupedConv, "forward", lambda self, x: forward(self, x) + 1e-6 * x.mean())
    with pytest.raises(InputError, match="strategy: loop"):
        train_family(FAMILY, recipe(strategy="grouped", width=3))


def test_isolation_check_catches_kernels_that_pad_with_zeros(monkeypatch):
    """Groups computed as one block-diagonal convolution: 0 times a finite value leaks nothing, 0 times infinity does."""
    from mithridate.training import stack

    def dense(self, x):
        outputs, inputs = self.weight.shape[1:3]
        whole = torch.zeros(self.width * outputs, self.width * inputs, *self.weight.shape[3:])
        for t in range(self.width):
            whole[t * outputs : (t + 1) * outputs, t * inputs : (t + 1) * inputs] = self.weight[t]
        return nn.functional.conv2d(x, whole, None, self.stride, self.padding)

    monkeypatch.setattr(stack.GroupedConv, "forward", dense)
    with pytest.raises(InputError, match="strategy: loop"):
        train_family(FAMILY, recipe(strategy="grouped", width=3))


def test_isolation_check_lets_members_diverge_by_themselves():
    family = train_family(FAMILY[:3], recipe(strategy="grouped", width=3, learning_rate=1e30))
    assert (family.flags == DIVERGED).all()


def test_slice_file_round_trip(tmp_path):
    family = train_family(FAMILY[:3], recipe())
    write_slice(tmp_path / "1-of-1.safetensors", family, recipe(), {"commit": "x"})
    again, read = read_slice(tmp_path / "1-of-1.safetensors")
    assert hashes(again) == hashes(family)
    assert read["strategy"] == "loop"
    assert read["options"] == recipe().options.model_dump(mode="json")


def test_a_whole_family_is_read_from_its_slices_in_order_of_numbers(tmp_path):
    r = recipe()
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for path, members in zip(paths, (FAMILY[4:6], FAMILY[:4], FAMILY[6:]), strict=True):
        write_slice(path, train_family(members, r), r, {})
    family, read = read_slices(paths)
    assert family.subset_ids.tolist() == list(range(len(FAMILY)))
    assert hashes(family) == hashes(train_family(FAMILY, r))
    assert read["strategy"] == "loop"
    with pytest.raises(InputError, match="not one whole family"):
        read_slices(paths[1:])


def test_initialisation_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train_family(FAMILY[:1], recipe())
    assert torch.equal(torch.rand(3), expected)
