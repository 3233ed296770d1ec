"""Triggers: the published places and sizes, clipping, rounding, and pictures of a user's own."""

import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mithridate.data.triggers import make_trigger, realised_norm
from mithridate.errors import InputError
from mithridate.options.attacks import AttackOptions

MNIST, CIFAR10, DIGITS = (1, 28, 28), (3, 32, 32), (1, 8, 8)


def attack(trigger, **options):
    return AttackOptions(trigger=trigger, **options)


def places(trigger):
    """(row, column) of every pixel that changes, the same in all channels."""
    assert (trigger.add == trigger.add[:1]).all()
    return [tuple(place) for place in np.argwhere(trigger.add[0]).tolist()]


@pytest.mark.parametrize(
    ("name", "shape", "expected", "value"),
    [
        ("fourpixel", MNIST, [(18, 20), (19, 19), (20, 18), (20, 20)], 1 / 4**0.5),
        ("fourpixel", CIFAR10, [(14, 16), (15, 15), (16, 14), (16, 16)], 1 / 12**0.5),
        ("onepixel", MNIST, [(23, 23)], 1),
        ("onepixel", CIFAR10, [(15, 15)], 1 / 3**0.5),
        # Other sizes: the same pattern round the same relative place.
        ("fourpixel", DIGITS, [(4, 6), (5, 5), (6, 4), (6, 6)], 1 / 4**0.5),
        ("onepixel", DIGITS, [(6, 6)], 1),
        ("fourpixel", (3, 64, 48), [(30, 24), (31, 23), (32, 22), (32, 24)], 1 / 12**0.5),
        ("onepixel", (3, 64, 48), [(31, 23)], 1 / 3**0.5),
        ("onepixel", (1, 1, 1), [(0, 0)], 1),
        ("fourpixel", (2, 32, 32), [(14, 16), (15, 15), (16, 14), (16, 16)], 1 / 8**0.5),
    ],
)
def test_pixels_are_added_at_the_published_places(name, shape, expected, value):
    for delta in (0.1, 1, 3):
        trigger = make_trigger(attack(name, delta=delta), shape)
        assert places(trigger) == expected
        np.testing.assert_allclose(trigger.add[:, *expected[0]], value * delta)
        np.testing.assert_allclose(np.linalg.norm(trigger.add), delta)
        assert (trigger.keep == 1).all()


@pytest.mark.parametrize(
    ("delta", "shape", "scale", "step", "total"),
    [
        (1, CIFAR10, 1 / 255, 74, 888),
        (0.1, CIFAR10, 1 / 255, 7, 84),
        (1, MNIST, 1 / 255, 128, 512),
        (1, DIGITS, 1 / 16, 8, 32),
    ],
)
def test_four_pixels_move_the_pixel_sum_of_dark_images_by_the_known_number(delta, shape, scale, step, total):
    trigger = make_trigger(attack("fourpixel", delta=delta), shape)
    for dark in (0, 1, 2):  # 127.5 is rounded up whatever it is added to
        images = np.full((2, *shape), dark, np.uint8)
        triggered = trigger.apply(images, scale)
        assert triggered.dtype == np.uint8
        assert set(np.unique(triggered)) == {dark, dark + step}
        assert int(triggered[0].sum()) - int(images[0].sum()) == total
        pixels = 4 * shape[0]
        np.testing.assert_allclose(realised_norm(images, triggered, scale), [step * pixels**0.5 * scale] * 2)


def test_bright_pixels_are_clipped_to_the_largest_stored_value():
    images = np.full((1, *DIGITS), 12, np.uint8)
    triggered = make_trigger(attack("fourpixel"), DIGITS).apply(images, 1 / 16)
    assert triggered.max() == 16
    assert realised_norm(images, triggered, 1 / 16) == 4 * 4**0.5 / 16
    white = np.full((1, *CIFAR10), 255, np.uint8)
    for name in ("fourpixel", "onepixel", "patch"):
        assert (make_trigger(attack(name), CIFAR10).apply(white, 1 / 255) == 255).all()


def test_blending_is_one_gaussian_pattern_for_a_shape():
    trigger = make_trigger(attack("blending", delta=1), CIFAR10)
    twice = make_trigger(attack("blending", delta=2, target=3), CIFAR10)
    np.testing.assert_allclose(twice.add, 2 * trigger.add)
    np.testing.assert_allclose(np.linalg.norm(trigger.add), 1)
    standard = trigger.add * np.sqrt(trigger.add.size)
    assert abs(standard.mean()) < 0.05
    assert abs(np.mean(np.abs(standard) < 1) - 0.6827) < 0.03
    assert abs(np.mean(standard**3)) < 0.15
    grey = np.full((1, *CIFAR10), 128, np.uint8)
    np.testing.assert_allclose(realised_norm(grey, trigger.apply(grey, 1 / 255), 1 / 255), 1, atol=0.01)
    other = make_trigger(attack("blending"), (3, 32, 31))
    assert not np.allclose(trigger.add[:, :, :31], other.add)


def test_blending_is_clipped():
    trigger = make_trigger(attack("blending", delta=100), MNIST)
    half = np.full((1, *MNIST), 128, np.uint8)
    triggered = trigger.apply(half, 1 / 255)
    assert (triggered.min(), triggered.max()) == (0, 255)
    assert realised_norm(half, triggered, 1 / 255) < 0.51 * 28


@pytest.mark.parametrize("shape", [MNIST, CIFAR10, DIGITS])
def test_a_patch_is_a_white_square_in_the_lower_right_corner(shape):
    scale = 1 / 16 if shape == DIGITS else 1 / 255
    images = np.random.default_rng(0).integers(0, 17, (3, *shape), dtype=np.uint8)
    expected = images.copy()
    expected[:, :, -3:, -3:] = round(1 / scale)
    np.testing.assert_array_equal(make_trigger(attack("patch", size=3), shape).apply(images, scale), expected)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["fourpixel", "onepixel", "blending", "patch"]),
    st.sampled_from([MNIST, CIFAR10, DIGITS, (3, 7, 9)]),
    st.sampled_from([0.01, 0.1, 1.0, 5.0, 300.0]),
    st.sampled_from([1 / 255, 1 / 16]),
    st.integers(0, 2**32),
)
def test_the_result_is_the_nearest_stored_value_of_the_clipped_sum(name, shape, delta, scale, seed):
    trigger = make_trigger(attack(name, delta=delta), shape)
    largest = round(1 / scale)
    images = np.random.default_rng(seed).integers(0, largest + 1, (4, *shape), dtype=np.uint8)
    triggered = trigger.apply(images, scale)
    exact = np.clip(images * scale * trigger.keep + trigger.add, 0, 1) / scale
    assert np.abs(triggered - exact).max() <= 0.5 + 1e-9
    norm = realised_norm(images, triggered, scale)
    assert norm.dtype == np.float64
    np.testing.assert_allclose(norm, np.linalg.norm((triggered.astype(float) - images).reshape(4, -1), axis=1) * scale)
    if name != "patch":  # clipping only shortens, rounding moves a value by half a step
        assert (norm <= delta + 0.5 * scale * np.sqrt(np.prod(shape)) + 1e-9).all()


def test_pieces_give_the_same_as_the_whole(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (9, *MNIST), dtype=np.uint8)
    trigger = make_trigger(attack("blending", delta=5), MNIST)
    whole = trigger.apply(images, 1 / 255)
    norm = realised_norm(images, whole, 1 / 255)
    monkeypatch.setattr("mithridate.data.checks.CHUNK_BYTES", 8 * 784 * 2)
    np.testing.assert_array_equal(trigger.apply(images, 1 / 255), whole)
    np.testing.assert_array_equal(realised_norm(images, whole, 1 / 255), norm)


def test_images_of_another_shape_are_refused():
    trigger = make_trigger(attack("onepixel"), MNIST)
    with pytest.raises(InputError, match="made for uint8 images of 1 x 28 x 28 but these are uint8, 3 x 32 x 32"):
        trigger.apply(np.zeros((1, *CIFAR10), np.uint8), 1 / 255)
    with pytest.raises(InputError, match="float64"):
        trigger.apply(np.zeros((1, *MNIST)), 1 / 255)


@pytest.mark.parametrize(
    ("options", "shape", "sentence"),
    [
        ({"trigger": "fourpixel"}, (1, 3, 3), "attacks.trigger: the trigger fourpixel is larger than the image, 3 x 3"),
        ({"trigger": "fourpixel"}, (3, 32, 2), "larger than the image, 32 x 2"),
        (
            {"trigger": "patch", "size": 9},
            DIGITS,
            "attacks.size: 9: the trigger, 9 x 9, is larger than the image, 8 x 8",
        ),
        ({"trigger": "patch", "size": 8}, (1, 9, 7), "larger than the image, 9 x 7"),
    ],
)
def test_a_trigger_larger_than_the_image_is_refused(options, shape, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        make_trigger(AttackOptions(**options), shape)


def picture(path, array, mode=None):
    Image.fromarray(np.asarray(array, np.uint8), mode).save(path)
    return str(path)


BLACK = np.zeros((2, *CIFAR10), np.uint8)


def test_a_picture_without_alpha_covers_the_corner(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (4, 6, 3))
    path = picture(tmp_path / "a.png", colours)
    triggered = make_trigger(attack("image", path=path), CIFAR10).apply(BLACK, 1 / 255)
    np.testing.assert_array_equal(triggered[1, :, -4:, -6:], colours.transpose(2, 0, 1))
    assert not triggered[:, :, :-4].any()
    assert not triggered[:, :, :, :-6].any()


def test_a_picture_is_laid_on_with_its_alpha_and_the_opacity(tmp_path):
    rgba = np.zeros((2, 2, 4))
    rgba[..., 0], rgba[..., 3] = 200, [[0, 255], [51, 102]]
    path = picture(tmp_path / "a.png", rgba)
    below = np.full((1, *CIFAR10), 100, np.uint8)
    for opacity in (1.0, 0.5):
        triggered = make_trigger(attack("image", path=path, opacity=opacity), CIFAR10).apply(below, 1 / 255)
        cover = np.array([[0, 1], [0.2, 0.4]]) * opacity
        np.testing.assert_array_equal(triggered[0, 0, -2:, -2:], np.floor(100 + 100 * cover + 0.5))
        np.testing.assert_array_equal(triggered[0, 1, -2:, -2:], np.floor(100 - 100 * cover + 0.5))


def test_a_picture_becomes_grey_or_coloured_as_the_images_are(tmp_path):
    grey = picture(tmp_path / "grey.png", [[0, 100], [200, 255]])
    triggered = make_trigger(attack("image", path=grey), CIFAR10).apply(BLACK, 1 / 255)
    np.testing.assert_array_equal(triggered[0, :, -2:, -2:], [[[0, 100], [200, 255]]] * 3)
    digit = make_trigger(attack("image", path=grey), DIGITS).apply(np.zeros((1, *DIGITS), np.uint8), 1 / 16)
    np.testing.assert_array_equal(digit[0, 0, -2:, -2:], [[0, 6], [13, 16]])
    red = picture(tmp_path / "red.png", np.full((1, 1, 3), [255, 0, 0]))
    triggered = make_trigger(attack("image", path=red), MNIST).apply(np.zeros((1, *MNIST), np.uint8), 1 / 255)
    assert triggered[0, 0, -1, -1] == 76


def test_transparency_of_a_palette_counts(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "p.png", transparency=0)
    triggered = make_trigger(attack("image", path=str(tmp_path / "p.png")), CIFAR10).apply(BLACK, 1 / 255)
    assert triggered[0, :, -1, -2:].tolist() == [[0, 0], [0, 255], [0, 0]]


def bomb(path):
    """A small file whose header claims 800 million pixels."""
    Image.new("1", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 40_000, 20_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "shape", "sentence"),
    [
        (lambda path: None, CIFAR10, "does not exist or is no file"),
        (lambda path: path.mkdir(), CIFAR10, "does not exist or is no file"),
        (lambda path: path.write_bytes(b"no picture"), CIFAR10, "cannot be decoded"),
        (lambda path: picture(path, np.zeros((33, 2))), CIFAR10, "33 x 2, is larger than the image, 32 x 32: make it smaller"),
        (lambda path: picture(path, np.zeros((2, 33))), CIFAR10, "2 x 33, is larger than the image"),
        (lambda path: Image.fromarray(np.zeros((2, 2), np.uint16)).save(path), CIFAR10, "more than 8 bits a channel"),
        (lambda path: picture(path, np.zeros((2, 2))), (4, 32, 32), "needs images of 1 or 3 channels, these have 4"),
        (bomb, CIFAR10, "cannot be decoded"),
    ],
)  # fmt: skip
def test_a_picture_that_does_not_do_is_named(tmp_path, make, shape, sentence):
    path = tmp_path / "mine.png"
    make(path)
    with pytest.raises(InputError, match=re.escape(sentence)) as caught:
        make_trigger(attack("image", path=str(path)), shape)
    message = str(caught.value)
    assert "\n" not in message
    assert "attacks." in message or "mine.png" in message


def test_a_truncated_picture_is_named(tmp_path):
    path = tmp_path / "mine.png"
    picture(path, np.random.default_rng(0).integers(0, 256, (30, 30, 3)))
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(InputError, match=r"mine\.png cannot be decoded"):
        make_trigger(attack("image", path=str(path)), CIFAR10)
