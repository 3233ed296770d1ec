"""RAB's training: a function of the noised images alone, with noise named by member and stored index."""

from dataclasses import replace

import numpy as np
import pytest

from mithridate import device
from mithridate.models.registry import builder
from mithridate.noise import gaussian
from mithridate.options.rab import RabOptions
from mithridate.options.root import parse
from mithridate.scoring.rab import Voters
from mithridate.streams import Stream
from mithridate.training.family import train_family, weight_hash
from mithridate.training.noised import BLOCK, Noised, noised_copies
from mithridate.training.recipe import resolve

SHAPE, N = (1, 8, 8), 75  # more than one block of noise
IMAGES = (Stream("rab images").uniform(N, *SHAPE) * 17).astype(np.uint8)
LABELS = (Stream("rab labels").uniform(N) * 2).astype(np.int64)
NOISE = {"scale": 1 / 16, "sigma": 0.5, "seed": 3, "device": "cpu"}


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def recipe(**options):
    training = RabOptions().training.model_copy(update={"epochs": 2, "width": 4, "strategy": "grouped", **options})
    return resolve(training, model="rab_mlp", shape=SHAPE, num_classes=2, scale=1.0, seed=3, device="cpu")


def copies(images=IMAGES, members=range(6), **changes):
    return noised_copies(members, images, LABELS, **{**NOISE, **changes})


def hashes(subsets, r=None) -> list[str]:
    family = train_family(subsets, r or recipe())
    return [weight_hash(family.member(position)) for position in range(len(subsets))]


def noise_of(images: np.ndarray, member: int = 2, **changes) -> np.ndarray:
    given = {**NOISE, **changes}
    return np.asarray(Noised(images, given["scale"], given["sigma"], given["seed"], member, "cpu")) - images / 16


def test_noise_is_gaussian_and_named_by_seed_member_and_stored_index_alone():
    noise = noise_of(IMAGES)
    assert abs(noise.std() / 0.5 - 1) < 0.03
    assert abs(noise.mean()) < 0.03
    other = IMAGES.copy()
    other[3:9] = 16 - other[3:9]
    np.testing.assert_allclose(noise_of(other), noise, atol=1e-6)  # never by content
    np.testing.assert_allclose(noise_of(IMAGES[: BLOCK + 1]), noise[: BLOCK + 1], atol=1e-6)  # nor by the number
    assert abs(np.corrcoef(noise.ravel(), noise_of(IMAGES, member=3).ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(noise.ravel(), noise_of(IMAGES, seed=4).ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(noise[:BLOCK].ravel()[: 64 * 11], noise[BLOCK:].ravel())[0, 1]) < 0.15
    np.testing.assert_allclose(noise_of(IMAGES, sigma=1.0), 2 * noise, atol=1e-5)


def test_the_trainer_is_handed_nothing_but_the_noised_images():
    """Two training sets whose noised copies are the same array give the same networks: D and ε are seen as D + ε."""
    whole = [replace(s, images=np.asarray(s.images)) for s in copies()]
    assert hashes(whole) == hashes(copies())
    moved = [replace(s, images=np.asarray(s.images).copy()) for s in whole]
    moved[4].images[7] += 1  # type: ignore[index]
    changed = [a != b for a, b in zip(hashes(moved), hashes(whole), strict=True)]
    assert changed == [False, False, False, False, True, False]
    assert all((s.mean == 0).all() and (s.std == 1).all() for s in whole)  # no statistics of the data
    assert all(s.labels is LABELS for s in whole)  # stored order


def test_members_do_not_depend_on_their_neighbours():
    assert hashes(copies(members=range(4, 6))) == hashes(copies())[4:]


def test_augmentation_is_refused():
    with pytest.raises(ValueError, match="augmentation must be off"):
        parse({"rab": {"training": {"augmentation": {"flip": True}}}})


def voters(family, sigma=0.5) -> Voters:
    return Voters(family, SHAPE, scale=1 / 16, sigma=sigma, model="rab_mlp", num_classes=2, batch_size=16, device="cpu")


def test_votes_are_probabilities_under_a_noise_that_the_parameters_determine():
    family = train_family(copies(), recipe())
    asked = voters(family)
    votes = asked.ask(IMAGES)
    assert votes.shape == (N, 6, 2)
    np.testing.assert_allclose(votes.sum(2), 1, atol=1e-6)
    np.testing.assert_array_equal(voters(family).ask(IMAGES), votes)  # deterministic
    np.testing.assert_array_equal(asked.ask(IMAGES[5:8]), votes[5:8])  # the same noise for every test image
    assert not np.array_equal(asked.noise[0], asked.noise[1])
    expected = 0.5 * gaussian(SHAPE, "rab test", weight_hash(family.member(1))).numpy()
    np.testing.assert_array_equal(asked.noise[1], expected)
    w = family.member(1)
    x = (IMAGES / 16 + asked.noise[1]).reshape(N, -1)
    z = np.maximum(x @ w["1.weight"].T + w["1.bias"], 0) @ w["3.weight"].T + w["3.bias"]
    np.testing.assert_allclose(votes[:, 1, 1], 1 / (1 + np.exp(-z[:, 0])), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "shape", "parameters"),
    [("rab_cnn", (1, 28, 28), 276_417), ("rab_resnet", (3, 32, 32), 467_553)],
)
def test_published_networks_have_their_number_of_parameters(model, shape, parameters):
    assert sum(p.numel() for p in builder(model)(*shape, 2).parameters()) == parameters
    assert list(builder(model)(*shape, 10).parameters())[-1].shape == (10,)
