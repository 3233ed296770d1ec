"""Augmentation against explicit NumPy shifts, and its invariants."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mithridate import device
from mithridate.options.training import AugmentationOptions
from mithridate.streams import Stream
from mithridate.training.augment import augment, count_numbers

SIZES = [(1, 8, 8), (3, 6, 11), (2, 9, 5)]


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def options(**changes) -> AugmentationOptions:
    return AugmentationOptions(**{"crop_padding": 0, "flip": False, "rotation": 0, "scaling": 0, **changes})


def pictures(n: int, shape: tuple[int, int, int]) -> Tensor:
    return torch.from_numpy(Stream("pictures", n, *shape).uniform(n, *shape).astype(np.float32))


def numbers(n: int, chosen: AugmentationOptions) -> Tensor:
    return torch.from_numpy(Stream("numbers").uniform(n, count_numbers(chosen)).astype(np.float32))


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """image [C,H,W] moved by whole pixels, black where nothing comes in."""
    result = np.zeros_like(image)
    height, width = image.shape[1:]
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[:, row, column] = image[:, row - down, column - right]
    return result


@pytest.mark.parametrize("shape", SIZES)
def test_nothing_asked_for_changes_nothing(shape):
    x = pictures(4, shape)
    assert count_numbers(options()) == 0
    assert torch.equal(augment(x, torch.zeros(4, 0), options()), x)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("pad", [1, 4])
def test_a_crop_shifts_by_every_whole_number_in_range_and_no_other(shape, pad):
    chosen = options(crop_padding=pad)
    steps = 2 * pad + 1
    pairs = [(i, j) for i in range(steps) for j in range(steps)]
    x = pictures(1, shape).expand(len(pairs), -1, -1, -1)
    for inside in (0.0, 0.5, 0.999):  # the whole of [i, i+1) / steps is shift i
        uniform = (torch.tensor(pairs, dtype=torch.float32) + inside) / steps
        result = augment(x, uniform, chosen).numpy()
        for (i, j), image in zip(pairs, result, strict=True):
            assert np.array_equal(image, shifted(x[0].numpy(), pad - i, pad - j)), (i, j, inside)
    largest = torch.full((1, 2), float(np.nextafter(np.float32(1), np.float32(0))))
    assert np.array_equal(augment(x[:1], largest, chosen)[0].numpy(), shifted(x[0].numpy(), -pad, -pad))


@pytest.mark.parametrize("shape", SIZES)
def test_a_flip_mirrors_left_and_right_below_one_half(shape):
    x = pictures(4, shape)
    result = augment(x, torch.tensor([[0.0], [0.499], [0.5], [0.999]]), options(flip=True))
    assert torch.equal(result[:2], x[:2].flip(3))
    assert torch.equal(result[2:], x[2:])


@pytest.mark.parametrize("shape", SIZES)
def test_a_mirrored_crop_is_the_crops_mirror_image(shape):
    x, chosen = pictures(30, shape), options(crop_padding=2, flip=True)
    uniform = numbers(30, chosen)
    crop = augment(x, uniform[:, :2], options(crop_padding=2))
    mirrored = uniform[:, 2] < 0.5
    assert 0 < mirrored.sum() < 30
    expected = torch.where(mirrored[:, None, None, None], crop.flip(3), crop)
    assert torch.equal(augment(x, uniform, chosen), expected)


@pytest.mark.parametrize("shape", SIZES)
def test_no_rotation_and_no_zoom_is_the_image_up_to_rounding(shape):
    x = pictures(3, shape)
    middle = torch.full((3, 2), 0.5)
    torch.testing.assert_close(augment(x, middle, options(rotation=30, scaling=0.2)), x, atol=1e-5, rtol=0)
    assert not torch.allclose(augment(x, middle + 0.3, options(rotation=30)), x, atol=0.05)
    assert not torch.allclose(augment(x, middle + 0.3, options(scaling=0.2)), x, atol=0.05)


@pytest.mark.parametrize("shape", SIZES)
def test_half_a_turn_is_both_mirrors(shape):
    x = pictures(2, shape)
    turned = augment(x, torch.tensor([[0.0, 0.5], [1.0, 0.5]]), options(rotation=180))
    torch.testing.assert_close(turned, x.flip(2, 3), atol=1e-4, rtol=0)


def test_a_quarter_turn_of_a_square_exchanges_rows_and_columns():
    x = pictures(1, (1, 8, 8))
    turned = augment(x, torch.tensor([[1.0, 0.5]]), options(rotation=90))
    exact = [torch.rot90(x, times, (2, 3)) for times in (1, 3)]
    assert any(torch.allclose(turned, e, atol=1e-4) for e in exact)


def test_turning_keeps_a_disc_round_in_an_oblong_image():
    height, width = 21, 33
    row, column = np.mgrid[:height, :width]
    disc = torch.from_numpy(((row - 10) ** 2 + (column - 16) ** 2 <= 49).astype(np.float32))[None, None]
    turned = augment(disc, torch.tensor([[1.0, 0.5]]), options(rotation=60))
    assert (turned - disc).abs().sum() < 0.1 * disc.sum()


EVERYTHING = [
    options(crop_padding=3, flip=True, rotation=40, scaling=0.4),
    options(crop_padding=2),
    options(rotation=180),
    options(flip=True, scaling=0.5),
]


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("chosen", EVERYTHING)
def test_values_stay_between_black_and_white(shape, chosen):
    x = torch.cat([pictures(40, shape), torch.ones(40, *shape)])
    result = augment(x, numbers(80, chosen), chosen)
    assert result.shape == x.shape
    assert result.min() >= 0
    assert result.max() <= 1 + 1e-6


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("chosen", EVERYTHING)
def test_an_image_does_not_depend_on_the_others(shape, chosen):
    x, uniform = pictures(12, shape), numbers(12, chosen)
    whole = augment(x, uniform, chosen)
    order = torch.from_numpy(Stream("order").permutations(1, 12)[0])
    assert torch.equal(augment(x[order], uniform[order], chosen), whole[order])
    other, other_numbers = x.clone(), uniform.clone()
    other[1::2], other_numbers[1::2] = torch.nan, 0.9
    assert torch.equal(augment(other, other_numbers, chosen)[::2], whole[::2])
    for rows in (slice(0, 1), slice(3, 8)):
        assert torch.equal(augment(x[rows], uniform[rows], chosen), whole[rows])
