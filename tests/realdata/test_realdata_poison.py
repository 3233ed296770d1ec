"""The four-pixel attack on the real CIFAR-10: how far it moves images through the partitions."""

import numpy as np
import pytest

from mithridate.data import dataset as data
from mithridate.data.checks import image_sums
from mithridate.data.partition import make_subsets, touched_buckets, touched_subsets
from mithridate.data.poison import draw, load_poisoned_index, poison, save_poisoned
from mithridate.data.triggers import make_trigger
from mithridate.data.vision import load_vision
from mithridate.options.attacks import AttackOptions, Variant

pytestmark = pytest.mark.realdata

DRAWS = 200


@pytest.fixture(scope="module")
def cifar10(real_data):
    return load_vision("cifar10", str(real_data))


def sums_before_and_after(cifar10, delta):
    trigger = make_trigger(AttackOptions(delta=delta), cifar10.shape)
    return image_sums(cifar10.x_train), image_sums(trigger.apply(cifar10.x_train, cifar10.scale))


@pytest.mark.parametrize(("delta", "step", "clipped_share"), [(1, 74, 0.42), (0.1, 7, 0.037)])
def test_four_pixels_move_pixel_sums(cifar10, delta, step, clipped_share):
    before, after = sums_before_and_after(cifar10, delta)
    clips = (cifar10.x_train[:, :, [14, 15, 16, 16], [16, 15, 14, 16]] > 255 - step).any((1, 2))
    assert (after - before).max() == 12 * step
    np.testing.assert_array_equal(after - before < 12 * step, clips)
    assert abs(clips.mean() - clipped_share) < 0.005


@pytest.mark.parametrize("delta", [1, 0.1])
def test_random_poisons_touch_the_expected_number_of_fifty_partitions(cifar10, delta):
    before, after = (sums % 50 for sums in sums_before_and_after(cifar10, delta))
    for r, mean, low, high in ((5, 9.2, 8, 10), (10, 16.7, 14, 19), (25, 32, 28, 36), (50, 43.5, 40, 47)):
        drawn = [draw(cifar10.y_train, AttackOptions(delta=delta), r, 0, seed) for seed in range(DRAWS)]
        touched = [len({*before[index], *after[index]}) for index in drawn]
        # The mean of 200 draws has a standard error of at most 0.16, the published one as well.
        assert abs(np.mean(touched) - mean) < 0.6
        np.testing.assert_allclose(np.percentile(touched, [5, 95]), [low, high], atol=1)


@pytest.mark.parametrize(("k", "d"), [(50, 1), (50, 4)])
def test_a_variant_on_disk_leaves_untouched_subsets_as_they_were(cifar10, tmp_path, k, d):
    data.save(tmp_path / "clean.h5", cifar10, 0.1, 0, {})
    made = poison(data.load(tmp_path / "clean.h5"), Variant(AttackOptions(), 10, 0), 0)
    path = tmp_path / f"{made.variant.name}.h5"
    save_poisoned(path, made, data.load_val_index(tmp_path / "clean.h5"), {})
    poisoned = data.load(path)
    before, after = (
        make_subsets(s.x_train, s.y_train, k, d, scale=s.scale, sums=s.pixel_sum) for s in (cifar10, poisoned)
    )
    index = load_poisoned_index(path)
    touched = touched_subsets(before, after, index)
    assert touched_buckets(before, after, index).sum() <= 20
    assert touched.sum() <= 20 * d
    for j in np.flatnonzero(~touched):
        np.testing.assert_array_equal(before.indices[j], after.indices[j])
        np.testing.assert_array_equal(cifar10.x_train[before.indices[j]], poisoned.x_train[after.indices[j]])
        np.testing.assert_array_equal(cifar10.y_train[before.indices[j]], poisoned.y_train[after.indices[j]])
