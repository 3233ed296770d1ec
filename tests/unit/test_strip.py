"""STRIP: the statistic against a plain loop, independence of other inputs, overlays, boundaries and what they promise."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, norm
from torch import nn

from mithridate import device
from mithridate.errors import InputError
from mithridate.options.badnet import StripOptions
from mithridate.progress import Progress
from mithridate.repair.strip import Strip, calibrate, entropy

SHAPE, CLASSES, M = (1, 6, 6), 4, 30
RNG = np.random.default_rng(0)
CLEAN = RNG.random((M, *SHAPE), np.float32)
IMAGES = RNG.random((11, *SHAPE), np.float32)


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(24, CLASSES), nn.Dropout(0.5)
        )
        for parameter in made.parameters():
            nn.init.normal_(parameter, std=0.8)
    return made


def strip(net: nn.Module | None = None, seed: int = 0, clean: np.ndarray = CLEAN, **options) -> Strip:
    how = StripOptions(**{"overlays": 7, **options})
    return Strip(net or network(), clean, options=how, seed=seed, scale=1 / 16)


@torch.no_grad()
def plain(net: nn.Module, image: np.ndarray, laid: np.ndarray, statistic: str, overlay: str) -> float:
    """One superimposed image after another."""
    entropies, classes = [], set()
    for other in laid:
        x = image + other
        if statistic == "entropy":
            x = np.clip(x, 0, 1) if overlay == "saturating" else x / 2
        p = net.eval()(torch.from_numpy(x)[None]).softmax(1).numpy()[0].astype(np.float64)
        entropies.append(-(p[p > 0] * np.log2(p[p > 0])).sum())
        classes.add(int(p.argmax()))
    return len(classes) if statistic == "labels" else float(np.mean(entropies))


@pytest.mark.parametrize(
    ("statistic", "overlay"), [("entropy", "saturating"), ("entropy", "convex"), ("labels", "convex")]
)
@pytest.mark.parametrize("batch_size", [None, 1, 22])
def test_the_statistic_is_that_of_a_plain_loop(statistic, overlay, batch_size):
    net = network(5)
    asked = strip(net, statistic=statistic, overlay=overlay, batch_size=batch_size)
    found = asked.values(IMAGES)
    chosen = CLEAN[asked.chosen(IMAGES)]
    expected = [plain(net, x, laid, statistic, overlay) for x, laid in zip(IMAGES, chosen, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert found.dtype == np.float64
    if statistic == "labels":
        assert len(set(found)) > 1


def test_plain_sums_are_not_clipped():
    """A network that tells sums above 1 from others."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].bias.zero_()
        net[1].weight[1, 0], net[1].bias[1] = 1, -1.2
    clean, image = np.zeros((4, *SHAPE), np.float32), np.full((1, *SHAPE), 0.7, np.float32)
    clean[2:] = 0.8
    for statistic, expected in (("labels", 2), ("entropy", None)):
        found = strip(net, clean=clean, overlays=4, statistic=statistic).values(image)[0]
        if expected:
            assert found == expected
        else:
            logits = torch.tensor([[0, 0.7 - 1.2], [0, 1 - 1.2]])  # clipped
            assert found == pytest.approx(float(entropy(logits).mean()), rel=1e-5)


@pytest.mark.parametrize("batch_size", [None, 21, 100])
def test_a_value_depends_on_its_own_image_alone(batch_size):
    asked = strip(batch_size=batch_size)
    together = asked.values(IMAGES)
    order = RNG.permutation(11)
    mixed = asked.values(IMAGES[order])
    alone = np.concatenate([asked.values(image[None]) for image in IMAGES])
    changed = IMAGES.copy()
    changed[1:] = 0
    first = asked.values(changed)[0]
    again = strip(batch_size=batch_size).values(IMAGES)
    if batch_size is None:  # one input a batch: to the bit, whatever the kernels
        assert together[order].tolist() == mixed.tolist()
        assert (together.tolist(), first) == (alone.tolist(), together[0])
    np.testing.assert_allclose(mixed, together[order], rtol=1e-6)
    np.testing.assert_allclose(alone, together, rtol=1e-6)
    assert again.tolist() == together.tolist()
    assert strip(seed=1).values(IMAGES).tolist() != together.tolist()


def test_grey_levels_are_scaled_and_the_network_is_left_alone():
    net = network().train()
    levels, clean = (np.floor(x * 17).clip(0, 16).astype(np.uint8) for x in (IMAGES, CLEAN))
    whole = strip(net, clean=clean).values(levels)
    real = strip(net, clean=clean / np.float32(16)).values(levels / np.float32(16))
    assert whole.tolist() == real.tolist()
    assert net.training
    assert not any(module._forward_hooks for module in net.modules())


def test_overlays_differ_follow_from_the_image_and_are_never_the_image_itself():
    asked, few, seen = strip(overlays=29), strip(), np.zeros(M, int)
    for place, own in enumerate(asked.chosen(CLEAN)):
        assert own.tolist() == [p for p in range(M) if p != place]  # all others
    for chosen in few.chosen(RNG.random((400, *SHAPE), np.float32)):
        assert len(set(chosen)) == 7
        assert (np.diff(chosen) > 0).all()
        seen[chosen] += 1
    # Uniform: 400 · 7 / 30 = 93 each, with a deviation of 8.5.
    assert abs(seen - 400 * 7 / M).max() < 5 * 8.5
    assert not any(place in chosen for place, chosen in enumerate(few.chosen(CLEAN)))
    assert few.chosen(IMAGES[:1]).tolist() != strip(seed=1).chosen(IMAGES[:1]).tolist()
    assert strip(overlays=M).chosen(IMAGES[:1]).tolist() == [list(range(M))]
    with pytest.raises(InputError, match="itself one of the 30 overlays, which leaves fewer than 30"):
        strip(overlays=M).chosen(CLEAN[:1])


def test_an_image_is_the_same_whatever_last_bits_its_scaling_left():
    levels = np.arange(36, dtype=np.uint8).reshape(1, *SHAPE)
    how = {"options": StripOptions(overlays=7), "seed": 0, "scale": 1 / 255}
    asked = Strip(network(), CLEAN, **how)
    divided = levels.astype(np.float32) / np.float32(255)
    assert (divided != levels * np.float32(1 / 255)).any()
    assert asked.chosen(levels).tolist() == asked.chosen(divided).tolist()


def test_entropy_of_uniform_and_of_certain_predictions():
    for classes in (2, 10, 1283):
        assert entropy(torch.zeros(1, classes)).item() == pytest.approx(np.log2(classes), abs=1e-12)
    certain = torch.full((1, 5), -2000.0)
    certain[0, 2] = 2000
    assert entropy(certain).item() == 0
    net = network()
    with torch.no_grad():
        net[4].weight.zero_()
        net[4].bias.zero_()
    found = strip(net).values(IMAGES)
    np.testing.assert_allclose(found, 2, atol=1e-12)
    assert strip(net, statistic="labels").values(IMAGES[:2]).tolist() == [1, 1]  # ties: class 0


def test_a_dominant_trigger_is_flagged():
    """Eight pixels tell four classes; the trigger, a pixel of its own, outweighs them all."""
    rng = np.random.default_rng(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].bias.zero_()
        for c in range(CLASSES):
            net[1].weight[c, 6 * c] = 6
        net[1].weight[0, 35] = 60
    clean = 0.2 * rng.random((300, *SHAPE), np.float32)
    clean[np.arange(300), 0, np.arange(300) % CLASSES, 0] = 0.9
    clean[..., 5, 5] = 0
    triggered = clean[:50].copy()
    triggered[..., 5, 5] = 1
    asked = Strip(net, clean[:100], options=StripOptions(overlays=50), seed=0)
    boundary = calibrate(asked.values(clean[100:200]), 0.02)
    assert boundary.flags(asked.values(triggered)).all()
    assert boundary.flags(asked.values(clean[200:])).mean() < 0.1


def test_bad_input_is_refused():
    with pytest.raises(InputError, match=r"strip\.overlays: 31 .* there are 30"):
        strip(overlays=31)
    with pytest.raises(InputError, match=r"inputs are 1 x 5 x 6, but overlays 1 x 6 x 6"):
        strip().values(IMAGES[:, :, :5])
    net = network()
    with torch.no_grad():
        net[4].bias[0] = np.inf
    with pytest.raises(InputError, match="not finite"):
        strip(net).values(IMAGES)
    assert strip().values(IMAGES[:0]).shape == (0,)


def test_progress_counts_inputs():
    progress = Progress("STRIP", 11, lambda line: None)
    strip(batch_size=21).values(IMAGES, progress)
    assert progress.done == 11


# ---- Boundaries ----


@given(st.lists(st.integers(0, 12), min_size=2, max_size=60), st.floats(0.01, 0.9))
def test_no_larger_share_of_calibration_images_is_flagged_and_no_larger_boundary_would_do(values, frr):
    m = len(values)
    if np.floor(frr * m + 1e-9) < 1:
        with pytest.raises(InputError, match=f"with {m} calibration images"):
            calibrate(np.array(values), frr)
        return
    boundary = calibrate(np.array(values), frr)
    flagged = boundary.flags(np.array(values)).sum()
    assert flagged == boundary.flagged <= frr * m + 1e-9
    larger = [v for v in values if v > boundary.value]
    assert sum(v <= min(larger) for v in values) > frr * m
    assert boundary.images == m


@pytest.mark.parametrize(("discrete", "k_plus"), [(False, 0), (True, 1)])
def test_what_a_boundary_promises_for_new_images(discrete, k_plus):
    """Rates over the drawing of both; for continuous values each set's own rate follows Beta(k, m + 1 − k)."""
    rng, m, frr, trials = np.random.default_rng(0), 40, 0.1, 4000
    k, rates = 4, np.empty(trials)
    for trial in range(trials):
        if discrete:
            values = rng.integers(0, 10, m)
            rates[trial] = (np.floor(calibrate(values, frr).value) + 1) / 10 if calibrate(values, frr).flagged else 0
        else:
            rates[trial] = calibrate(rng.random(m), frr).value  # uniform values: the rate itself
    allowed = (k + k_plus) / (m + 1)
    assert rates.mean() <= allowed + 4 * rates.std() / np.sqrt(trials)
    if not discrete:
        assert rates.mean() == pytest.approx(k / (m + 1), abs=0.004)
        for level in (0.1, 0.5, 0.9):
            assert np.quantile(rates, level) == pytest.approx(beta.ppf(level, k, m + 1 - k), abs=0.008)


def test_boundaries_by_hand():
    values = np.array([5.0, 1, 3, 2, 4, 6, 7, 8, 9, 10])
    assert [calibrate(values, frr).value for frr in (0.1, 0.2, 0.29, 0.3)] == [1, 2, 2, 3]
    assert calibrate(np.array([1, 1, 1, 4]), 0.5).value == -np.inf  # three tie, two are allowed
    assert not calibrate(np.array([1, 1, 1, 4]), 0.5).flags(np.array([0.0, 1])).any()
    normal = calibrate(values, 0.01, "normal")
    assert normal.value == pytest.approx(norm.ppf(0.01, values.mean(), values.std()))
    assert (normal.flagged, normal.kind) == (0, "normal")
    assert calibrate(np.arange(50.0), 0.01, "normal").images == 50  # where empirical has too few
    with pytest.raises(InputError, match=r"less than one image.*0\.02 or more"):
        calibrate(np.arange(50.0), 0.01)
    for bad in ([1.0], [1.0, np.nan], []):
        with pytest.raises(InputError, match="at least 2 calibration images"):
            calibrate(np.array(bad), 0.1)
