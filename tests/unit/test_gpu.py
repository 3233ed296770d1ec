"""What the trainer and the scorers promise, on a card: bits that depend on a member's own subset alone."""

import numpy as np
import pytest
import torch
from torch import nn

from mithridate import device
from mithridate.noise import gaussian
from mithridate.options.dpa import ScoringOptions
from mithridate.options.smoothing import GaussianOptions, MacerOptions, SmoothAdvOptions, SmoothingOptions
from mithridate.options.training import AugmentationOptions, TrainingOptions
from mithridate.scoring.scores import Scorer
from mithridate.scoring.smoothing import ESTIMATE, Counter
from mithridate.streams import Stream
from mithridate.training.family import Family, train_family, weight_hash
from mithridate.training.flags import FITTED
from mithridate.training.recipe import Recipe, resolve
from mithridate.training.subset import Subset
from mithridate.training.victims import noising, train_victims

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

SHAPE, CLASSES = (3, 32, 32), 10
CROP = AugmentationOptions(crop_padding=4, flip=True, rotation=0, scaling=0)
WAYS = [
    pytest.param("nin", {"precision": "bf16"}, id="nin-bf16"),
    pytest.param("nin", {"precision": "fp32"}, id="nin-fp32"),
    pytest.param("nin", {"precision": "bf16", "channels_last": False}, id="nin-nchw"),
    pytest.param("resnet20", {"optimiser": "adam"}, id="resnet20"),
    pytest.param(f"{__name__}:with_dropout", {}, id="dropout"),
    pytest.param("small_cnn", {"strategy": "grouped", "width": 3}, id="grouped"),
    pytest.param("small_cnn", {"strategy": "grouped", "width": 3, "precision": "bf16"}, id="grouped-bf16"),
]


def with_dropout(channels: int, height: int, width: int, num_classes: int) -> nn.Sequential:
    """Draws from PyTorch's own generator in every step."""
    inputs = channels * height * width
    layers = nn.Linear(inputs, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, num_classes)
    return nn.Sequential(nn.Flatten(), *layers)


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare("cuda")


def recipe(model: str, **options) -> Recipe:
    given = {"steps": None, "epochs": 9, "batch_size": 16, "learning_rate": 0.01, "augmentation": CROP, **options}
    how = {"model": model, "shape": SHAPE, "num_classes": CLASSES, "scale": 1 / 255, "seed": 3, "device": "cuda"}
    return resolve(TrainingOptions(**given), **how)


def subset(number: int, size: int, salt: int = 0) -> Subset:
    stream = Stream("gpu test", number, salt)
    images = (stream.uniform(size, *SHAPE) * 256).astype(np.uint8)
    return Subset(number, images, np.arange(size) % CLASSES, np.full(3, 0.5), np.full(3, 0.25))


FAMILY = [subset(number, size) for number, size in enumerate((37, 50, 16, 41, 33, 20))]  # more than lanes


def hashes(family: Family) -> list[str]:
    return [weight_hash(family.member(position)) for position in range(len(family.subset_ids))]


@pytest.mark.parametrize(("model", "options"), WAYS)
def test_members_are_the_same_in_any_company(model, options):
    r = recipe(model, **options)
    family = train_family(FAMILY, r)
    assert (family.flags == FITTED).all()
    assert hashes(train_family(FAMILY, r)) == hashes(family), "the same again"
    assert hashes(train_family(FAMILY[::-1], r)) == hashes(family)[::-1], "in another order"
    alone = [hashes(train_family([one], r))[0] for one in FAMILY]
    assert alone == hashes(family), "each alone"
    poisoned = [subset(1, 29, salt=1) if one.number == 1 else one for one in FAMILY]
    changed = [a != b for a, b in zip(hashes(train_family(poisoned, r)), hashes(family), strict=True)]
    assert changed == [False, True, False, False, False, False]


@pytest.mark.parametrize(("model", "options"), WAYS)
def test_a_captured_step_is_the_step(model, options):
    captured, eager = (hashes(train_family(FAMILY, recipe(model, cuda_graphs=g, **options))) for g in (True, False))
    assert captured == eager


@pytest.mark.parametrize(
    ("procedure", "constants"),
    [
        ("gaussian", GaussianOptions()),
        ("smoothadv", SmoothAdvOptions(epsilon=0.5, steps=2, warmup_epochs=2)),
        ("macer", MacerOptions(draws=3, weight=2, beta=4, gamma=6)),
    ],
)
def test_victims_are_the_same_again_captured_or_not(procedure, constants):
    images = Stream("gpu victims").uniform(45, *SHAPE).astype(np.float32)

    def train(graphs: bool) -> list[str]:
        given = {"epochs": 9, "batch_size": 16, "learning_rate": 1e-3, "decay": "constant", "cuda_graphs": graphs}
        options = SmoothingOptions().training.model_copy(update=given)
        how = {"model": "resnet20", "shape": SHAPE, "num_classes": CLASSES, "scale": 1.0, "seed": 0, "device": "cuda"}
        r = resolve(options, noising=noising(procedure, 0.25, constants), **how)
        return hashes(train_victims(images, np.arange(45) % CLASSES, 2, r))

    assert train(True) == train(True) == train(False)


def test_scores_do_not_depend_on_the_other_test_images():
    r = recipe("nin", precision="bf16")
    family = train_family(FAMILY[:2], r)
    images = (Stream("gpu scored").uniform(300, *SHAPE) * 256).astype(np.uint8)
    mean, std = np.full((2, 3), 0.5), np.full((2, 3), 0.25)
    how = {"scale": 1 / 255, "model": "nin", "num_classes": CLASSES, "device": "cuda"}
    for precision in ("fp32", "bf16"):
        options = ScoringOptions(precision=precision)
        whole = Scorer(images, options=options, **how).score(family, mean, std).scores
        part = Scorer(images[:10], options=options, **how).score(family, mean, std).scores
        np.testing.assert_array_equal(whole[:10], part)


def test_noise_counts_depend_on_the_image_alone():
    family = train_family(FAMILY[:1], recipe("resnet20", optimiser="adam"))
    images = (Stream("gpu counted").uniform(3, *SHAPE) * 256).astype(np.uint8)
    how = {"model": "resnet20", "num_classes": CLASSES, "scale": 1 / 255, "sigma": 0.25, "seed": 0, "device": "cuda"}
    counter = Counter(family.member(0), SHAPE, chunk=100, **how)
    whole = counter.counts(ESTIMATE, images, [0, 1, 2], 250)
    assert (whole.sum(1) == 250).all()
    np.testing.assert_array_equal(counter.counts(ESTIMATE, images[2:], [2], 250), whole[2:])


def test_noise_is_a_function_of_its_name():
    one, same, other = (gaussian((1000,), "gpu", n, device="cuda").cpu() for n in (1, 1, 2))
    assert torch.equal(one, same)
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.15
