"""Triggers of backdoor attacks: a pattern that is added to an image, or a picture that is laid over it.

Sources: Weber et al., "RAB: Provable Robustness Against Backdoor Attacks", IEEE S&P 2023 (four-pixel,
one-pixel, blending; δ is the L2 norm of the added pattern, pixels being in [0, 1]); Gu, Dolan-Gavitt & Garg,
"BadNets", 2017 (patch). The result is clipped to [0, 1], blending's too, which the paper does not clip, and
rounded to stored values, so that the realised norm of an image may differ from δ: see realised_norm.

Places are those of the paper: MNIST's for grey images, CIFAR-10's for images with more channels. At another
size the centre lies at the same relative place, pixel centres being mapped: p becomes
⌊(p + ½) / S · H⌋, that is (p + ½) / S · H - ½ rounded, halves up, for H rows instead of S; the other pixels
keep their distance to it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from mithridate.data.checks import pieces, shape_text
from mithridate.data.files import image_header, open_picture
from mithridate.errors import InputError
from mithridate.options.attacks import AttackOptions
from mithridate.streams import Stream

# Side of the square images for which the places are given, grey and colour; centres (row, column); and the
# other pixels of the four.
SIDE = {"grey": 28, "colour": 32}
FOURPIXEL_CENTRE = {"grey": (19, 19), "colour": (15, 15)}
ONEPIXEL_CENTRE = {"grey": (23, 23), "colour": (15, 15)}
FOURPIXEL_OFFSETS = ((-1, 1), (0, 0), (1, -1), (1, 1))
ONEPIXEL_OFFSETS = ((0, 0),)

FLOAT64_BYTES = 8
SMALLEST_UNIFORM = 2.0**-54  # keeps Gaussian numbers finite


@dataclass(frozen=True, eq=False)
class Trigger:
    """An image x in [0, 1] becomes keep · x + add, clipped to [0, 1]; both float64 [C,H,W]."""

    keep: np.ndarray
    add: np.ndarray

    def apply(self, images: np.ndarray, scale: float) -> np.ndarray:
        """uint8 [N,C,H,W] with the trigger, rounded to the nearest stored value (halves up); `scale` takes a
        stored value to [0, 1], so that the largest is 1 / scale.

        Raises InputError for images of another shape than that of the trigger.
        """
        if images.dtype != np.uint8 or images.shape[1:] != self.add.shape:
            raise InputError(
                f"the trigger is made for uint8 images of {shape_text(self.add.shape)} but these are {images.dtype},"
                f" {shape_text(images.shape[1:])} (channels, height, width): make the trigger for their shape."
            )
        largest = round(1 / scale)
        triggered = np.empty(images.shape, np.uint8)
        for rows in pieces(images, FLOAT64_BYTES):
            values = np.clip(images[rows] * self.keep + self.add * largest, 0, largest)
            triggered[rows] = np.floor(values + 0.5)
        return triggered


def make_trigger(attack: AttackOptions, shape: tuple[int, int, int], key: str = "attacks") -> Trigger:
    """The trigger of an attack for images of `shape` (channels, height, width); key is what messages call the
    configuration's block.

    Raises InputError where the trigger is larger than the image, and for a picture that is missing, cannot be
    decoded or does not fit.
    """
    if attack.trigger == "image":
        return _picture(attack, shape, key)
    if attack.trigger == "patch":
        _fit(f"{key}.size: {attack.size}", (attack.size, attack.size), shape)
        square = np.zeros(shape)
        square[:, -attack.size :, -attack.size :] = 1
        return Trigger(keep=1 - square, add=square)
    try:
        pattern = PATTERNS[attack.trigger](shape)
    except InputError as error:
        raise InputError(f"{key}.trigger: {error}") from None
    return Trigger(keep=np.ones(shape), add=pattern * (attack.delta / np.sqrt(np.square(pattern).sum())))


def sunglasses(shape: tuple[int, int, int]) -> Trigger:
    """A black band over the upper middle of images of `shape` (channels, height, width): from 2/7 to 3/7 of the height
    and 1/7 to 6/7 of the width, rounded down, and at least one pixel."""
    _, height, width = shape
    top, left = 2 * height // 7, width // 7
    keep = np.ones(shape)
    keep[:, top : max(top + 1, 3 * height // 7), left : max(left + 1, width - left)] = 0
    return Trigger(keep=keep, add=np.zeros(shape))


def realised_norm(clean: np.ndarray, triggered: np.ndarray, scale: float) -> np.ndarray:
    """L2 norm of what the trigger changed in each image, pixels being in [0, 1]: float64 [N], of two uint8
    arrays [N,C,H,W]."""
    squares = np.empty(len(clean), np.int64)
    for rows in pieces(clean, FLOAT64_BYTES):
        difference = triggered[rows].astype(np.int32) - clean[rows]
        squares[rows] = np.square(difference).reshape(len(difference), -1).sum(axis=1, dtype=np.int64)
    return np.sqrt(squares) * scale


PATTERNS: dict[str, Callable[[tuple[int, int, int]], np.ndarray]] = {
    "fourpixel": lambda shape: _pixels("fourpixel", shape),
    "onepixel": lambda shape: _pixels("onepixel", shape),
    "blending": lambda shape: _noise(shape),
}
"""By name (those of options/triggers.py): shape -> pattern, float64 of that shape (channels, height, width) and not all
zero, of which make_trigger makes one of norm δ. May raise InputError where the shape does not do."""


def _noise(shape: tuple[int, int, int]) -> np.ndarray:
    """Standard Gaussian, the same in every run."""
    uniform = Stream("trigger", "blending", *shape).uniform(*shape)
    return np.asarray(ndtri(np.clip(uniform, SMALLEST_UNIFORM, 1 - SMALLEST_UNIFORM * 2)))


def _pixels(trigger: str, shape: tuple[int, int, int]) -> np.ndarray:
    """1 at the trigger's pixels, in every channel."""
    four, kind = trigger == "fourpixel", "grey" if shape[0] == 1 else "colour"
    centre = (FOURPIXEL_CENTRE if four else ONEPIXEL_CENTRE)[kind]
    row, column = ((2 * p + 1) * side // (2 * SIDE[kind]) for p, side in zip(centre, shape[1:], strict=True))
    pattern = np.zeros(shape)
    for down, right in FOURPIXEL_OFFSETS if four else ONEPIXEL_OFFSETS:
        y, x = row + down, column + right
        if not (0 <= y < shape[1] and 0 <= x < shape[2]):
            raise InputError(
                f"the trigger {trigger} is larger than the image, {shape_text(shape[1:])}: choose onepixel or patch."
            )
        pattern[:, y, x] = 1
    return pattern


def _picture(attack: AttackOptions, shape: tuple[int, int, int], key: str) -> Trigger:
    """The user's picture in the lower right corner, converted to grey or RGB as the images are."""
    path = Path(attack.path or "")
    channels = shape[0]
    if channels not in (1, 3):
        raise InputError(f"{key}.trigger: image needs images of 1 or 3 channels, these have {channels}: choose patch.")
    if not path.is_file():
        raise InputError(f"{key}.path: {path} does not exist or is no file: give the path of a picture.")
    _fit(f"{key}.path: {path}", image_header(path)[1], shape)
    with open_picture(path) as file:
        picture = file.convert("RGBA")
        alpha = np.asarray(picture.getchannel("A")) / 255
        colour = np.asarray(picture.convert("L" if channels == 1 else "RGB")) / 255
    height, width = alpha.shape
    cover, add = np.zeros(shape), np.zeros(shape)
    cover[:, -height:, -width:] = alpha * attack.opacity
    add[:, -height:, -width:] = colour.reshape(height, width, channels).transpose(2, 0, 1)
    return Trigger(keep=1 - cover, add=cover * add)


def _fit(what: str, size: tuple[int, int], shape: tuple[int, int, int]) -> None:
    if size[0] > shape[1] or size[1] > shape[2]:
        raise InputError(
            f"{what}: the trigger, {shape_text(size)}, is larger than the image, {shape_text(shape[1:])}:"
            " make it smaller."
        )
