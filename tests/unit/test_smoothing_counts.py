"""Counts under noise depend on the image, its index and the number of the draw alone, and estimate what they should."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, norm
from torch import nn

from mithridate import device
from mithridate.certify.anytime import Sequential
from mithridate.certify.smoothing import ABSTAIN, certified_radius
from mithridate.errors import InputError
from mithridate.models.registry import builder
from mithridate.noise import gaussian
from mithridate.options.smoothing import CertifyOptions
from mithridate.progress import Progress
from mithridate.scoring.smoothing import ESTIMATE, SELECT, Counter, certify
from mithridate.streams import Stream

SHAPE, CLASSES, SCALE, SIGMA = (1, 8, 8), 4, 1 / 16, 0.5
IMAGES = (Stream("smoothing test").uniform(5, *SHAPE) * 17).astype(np.uint8)
INDICES = np.array([4, 17, 0, 123, 9])


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def linear(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, num_classes))


def one_output(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
    return linear(channels, height, width, 1)


LINEAR, ONE = ("tests.unit.test_smoothing_counts:" + name for name in ("linear", "one_output"))


def tensors(seed: int = 0, model: str = "small_cnn", classes: int = CLASSES, shape=SHAPE) -> dict[str, np.ndarray]:
    """An untrained network whose classes are about equally frequent under noise."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        net = builder(model)(*shape, classes).eval()
        net[-1].bias -= net(torch.rand(500, *shape) + SIGMA * torch.randn(500, *shape)).mean(0)
    state = net.state_dict().items()
    return {name: tensor.numpy() for name, tensor in state if not name.endswith("num_batches_tracked")}


def counter(own: dict[str, np.ndarray] | None = None, **changes) -> Counter:
    how = {"model": "small_cnn", "num_classes": CLASSES, "scale": SCALE, "sigma": SIGMA, "seed": 3, "device": "cpu"}
    how |= {"chunk": 50, "batch_size": 20, "shape": SHAPE}
    return Counter(tensors() if own is None else own, **{**how, **changes})


# ---- What a count depends on ----


def test_counts_add_up_and_come_out_the_same_twice():
    counts = counter().counts(ESTIMATE, IMAGES, INDICES, 130)
    assert (counts.shape, counts.dtype) == ((5, CLASSES), np.int64)
    assert counts.sum(1).tolist() == [130] * 5
    assert np.array_equal(counter().counts(ESTIMATE, IMAGES, INDICES, 130), counts)


def test_counts_depend_on_neither_the_block_nor_the_order_of_images():
    whole = counter().counts(ESTIMATE, IMAGES, INDICES, 70)
    for rows in ([0], [3], [1, 2], [4, 2, 0, 3, 1]):
        assert np.array_equal(counter().counts(ESTIMATE, IMAGES[rows], INDICES[rows], 70), whole[rows])
    same = np.repeat(IMAGES[:1], 5, axis=0)
    assert len(np.unique(counter().counts(ESTIMATE, same, INDICES, 70), axis=0)) > 1  # the index names the noise


def test_a_draw_does_not_depend_on_how_many_follow():
    """Counts of 0..n−1 differ from those of 0..n by one: across batches (20), chunks (50) and their remainders."""
    ends = [1, 19, 20, 21, 39, 40, 41, 49, 50, 51, 99, 100, 101, 119, 120]
    counts = {n: counter().counts(ESTIMATE, IMAGES[:2], INDICES[:2], n) for n in ends}
    for n in (19, 20, 39, 40, 49, 50, 99, 100, 119):
        more = counts[n + 1] - counts[n]
        assert (more >= 0).all()
        assert more.sum(1).tolist() == [1, 1]


def test_selection_and_estimation_share_no_noise():
    names = [(kind, 3, index, chunk) for kind in (SELECT, ESTIMATE) for index in (0, 1) for chunk in (0, 1)]
    assert len({gaussian((50, 64), *name).sum().item() for name in names}) == 8
    own = counter()
    assert not np.array_equal(own.counts(SELECT, IMAGES, INDICES, 200), own.counts(ESTIMATE, IMAGES, INDICES, 200))


@pytest.mark.parametrize("change", [{"seed": 4}, {"chunk": 25}, {"sigma": 0.6}, {"own": tensors(1)}])
def test_seed_chunk_sigma_and_network_matter(change):
    own = change.pop("own", None)
    counts = counter().counts(ESTIMATE, IMAGES, INDICES, 200)
    assert not np.array_equal(counter(own, **change).counts(ESTIMATE, IMAGES, INDICES, 200), counts)


def test_the_batch_moves_last_bits_only():
    counts = counter().counts(ESTIMATE, IMAGES, INDICES, 200)
    for batch in (7, 50, 1000):
        moved = np.abs(counter(batch_size=batch).counts(ESTIMATE, IMAGES, INDICES, 200) - counts).sum()
        assert moved <= 4


def test_images_in_the_unit_interval_count_as_stored_ones():
    values = (IMAGES * SCALE).astype(np.float32)
    stored = counter().counts(ESTIMATE, IMAGES, INDICES, 60)
    assert np.array_equal(counter().counts(ESTIMATE, values, INDICES, 60), stored)


# ---- What a count says ----


def by_hand(own: Counter, kind: str, image: np.ndarray, index: int, draws: int) -> np.ndarray:
    """Cohen et al.'s SAMPLEUNDERNOISE on the same noise, one copy at a time."""
    counts = np.zeros(CLASSES, int)
    for draw in range(draws):
        chunk, row = divmod(draw, own.chunk)
        noise = gaussian((own.chunk, 8, 8, 1), kind, own.seed, index, chunk)[row].permute(2, 0, 1)
        x = torch.from_numpy(image).float() * SCALE + SIGMA * noise
        with torch.no_grad():
            counts[own.network(x[None])[0].argmax()] += 1
    return counts


def test_certificates_are_those_of_cohens_procedure_on_the_same_noise():
    options = CertifyOptions(n0=30, n=120, alpha=0.01, chunk=50)
    labels = np.array([0, 1, 2, 3, 0])
    own, progress = counter(), Progress("images certified", 5, write=lambda line: None)
    rows = certify(own, IMAGES, labels, INDICES, options, progress)
    assert progress.done == 5
    for row, (image, index) in enumerate(zip(IMAGES, INDICES, strict=True)):
        chosen = by_hand(own, SELECT, image, index, 30).argmax()
        n_a = by_hand(own, ESTIMATE, image, index, 120)[chosen]
        radius = certified_radius(n_a, 120, SIGMA, 0.01)
        found = rows.iloc[row]
        assert (found["index"], found["selected"], found["n_a"], found["n"]) == (index, chosen, n_a, 120)
        assert found["prediction"] == (ABSTAIN if np.isnan(radius) else chosen)
        assert found["radius"] == np.nan_to_num(radius)
        assert found["correct"] == (found["prediction"] == labels[row])


def test_a_linear_networks_counts_are_binomial_with_the_known_probability():
    """P(w·(x + σε) + b > 0) = Φ((w·x + b) / σ‖w‖)."""
    own = tensors(5, LINEAR, 2)
    w, b = own["1.weight"][1] - own["1.weight"][0], own["1.bias"][1] - own["1.bias"][0]
    margin = ((IMAGES.reshape(5, -1) * SCALE) @ w + b) / (SIGMA * np.linalg.norm(w))
    counts = counter(own, model=LINEAR, num_classes=2).counts(ESTIMATE, IMAGES, INDICES, 4000)
    for image in range(5):
        assert binomtest(int(counts[image, 1]), 4000, norm.cdf(margin[image])).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 12)])
def test_images_of_other_shapes(shape):
    own = tensors(0, shape=shape)
    images = (Stream("other shapes").uniform(2, *shape) * 17).astype(np.uint8)
    counts = counter(own, shape=shape).counts(ESTIMATE, images, [0, 1], 60)
    assert counts.sum(1).tolist() == [60, 60]


def test_ties_go_to_the_smaller_class_and_one_output_stands_for_two_classes():
    nothing = {name: np.zeros_like(tensor) for name, tensor in tensors(0, LINEAR, 4).items()}
    nothing["1.bias"] = np.array([0, 1, 1, 0], np.float32)
    counts = counter(nothing, model=LINEAR).counts(ESTIMATE, IMAGES[:1], [0], 30)
    assert counts.tolist() == [[0, 30, 0, 0]]
    single = {"1.weight": np.zeros((1, 64), np.float32), "1.bias": np.array([-1], np.float32)}
    found = counter(single, model=ONE, num_classes=2)
    assert found.counts(ESTIMATE, IMAGES[:1], [0], 30).tolist() == [[30, 0]]


# ---- Stopping ----


def test_sequential_certification_stops_at_the_first_batch_that_decides():
    options = CertifyOptions(n0=20, n=400, alpha=0.01, chunk=50, sequential=True)
    own, labels = counter(), np.zeros(5, int)
    rows = certify(own, IMAGES, labels, INDICES, options)
    rule = Sequential(n=400, sigma=SIGMA, alpha=0.01)
    at = [n for n in range(1, 401) if n % 50 in (0, 20, 40)]  # ends of batches
    for row in range(5):
        found = rows.iloc[row]
        hits = {
            n: own.counts(ESTIMATE, IMAGES[row : row + 1], INDICES[row : row + 1], n)[0, found["selected"]] for n in at
        }
        stop = next(n for n in at if rule.decided(hits[n], n))
        assert (found["n"], found["n_a"]) == (stop, hits[stop])
        assert found["radius"] == np.nan_to_num(rule.certified_radius(hits[stop], stop))
    again = certify(own, IMAGES[::-1].copy(), labels, INDICES[::-1].copy(), options)
    assert again.iloc[::-1].to_dict("list") == rows.to_dict("list")


def test_all_draws_are_used_where_nothing_is_decided():
    biased = {name: np.zeros_like(tensor) for name, tensor in tensors(0, LINEAR, 2).items()}
    biased["1.weight"][0, 0] = 1  # class 0 where the first pixel's noise is above −0.41 σ: with probability 0.66
    biased["1.bias"][0] = 0.41 * SIGMA - float(IMAGES[0, 0, 0, 0]) * SCALE
    own = counter(biased, model=LINEAR, num_classes=2, batch_size=25)
    rule = Sequential(n=90, sigma=SIGMA, alpha=0.001)
    n_a, n = own.decide(IMAGES[:1], [0], np.array([0]), rule)
    assert n.tolist() == [90]
    assert rule.decided(n_a, n).tolist() in ([-1], [1])


# ---- What is refused ----


def test_outputs_that_are_not_finite_name_the_model():
    own = tensors()
    own["4.weight"][:] = np.nan
    rule = Sequential(n=90, sigma=SIGMA, alpha=0.001)
    with pytest.raises(InputError, match=r"small_cnn .* not finite for test image 4 .*or its code is wrong"):
        counter(own).counts(ESTIMATE, IMAGES, INDICES, 60)
    with pytest.raises(InputError, match=r"small_cnn .* not finite for test image 17"):
        counter(own).decide(IMAGES[1:], INDICES[1:], np.zeros(4, int), rule)


def test_too_few_noises_are_refused_before_any_is_drawn():
    for sequential in (False, True):
        with pytest.raises(InputError, match="N = 5 certifies nothing"):
            certify(counter(), IMAGES[:, :, :4], None, None, CertifyOptions(n=5, sequential=sequential))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": 0}, "sigma = 0"),
        ({"chunk": 0}, "chunk = 0"),
        ({"model": "mlp"}, "do not fit the model"),
        ({"num_classes": 5}, "do not fit the model"),
        ({"model": "unheard_of"}, "not known"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        counter(**change)


@pytest.mark.parametrize(
    ("images", "indices", "message"),
    [
        (IMAGES[:, :, :4], INDICES, r"\(5, 1, 4, 8\)"),
        (IMAGES, INDICES[:3], "one index per image"),
        (IMAGES.astype(np.float32), INDICES, r"test image 4 .* not in \[0,1\]"),
        (np.full((1, *SHAPE), np.nan, np.float32), [8], "test image 8"),
        (IMAGES.astype(np.float64) / 16, INDICES, "float64"),
    ],
)
def test_images_that_cannot_be_counted_are_refused(images, indices, message):
    with pytest.raises(InputError, match=message):
        counter().counts(ESTIMATE, images, indices, 10)
