"""Checks of single arrays, and the sums of images that the partition hashes."""

from collections.abc import Iterator

import numpy as np

from mithridate.errors import InputError

MAX_CLASSES = 4096
CHUNK_BYTES = 1 << 24  # pixels worked on at once: fits the cache, and bounds memory for memory-mapped images


def pieces(images: np.ndarray, bytes_a_value: int = 1) -> Iterator[slice]:
    """Slices of consecutive images that hold about CHUNK_BYTES in a type of so many bytes."""
    step = max(1, CHUNK_BYTES // (bytes_a_value * max(1, int(np.prod(images.shape[1:])))))
    return (slice(start, min(start + step, len(images))) for start in range(0, len(images), step))


def image_sums(images: np.ndarray) -> np.ndarray:
    """Sum of each image's uint8 values over all channels: int64 [N]. Reads a bounded piece of `images` at a
    time."""
    sums = np.empty(len(images), np.int64)
    for rows in pieces(images):
        part = images[rows]
        sums[rows] = part.reshape(len(part), -1).sum(axis=1, dtype=np.uint64)
    return sums


def class_numbers(*labels: np.ndarray) -> list[str]:
    """Names of classes that have none: the numbers 0 to the largest label of all sets (at most
    MAX_CLASSES)."""
    whole = [y for y in labels if y.size and y.dtype.kind in "iu"]
    largest = max((int(y.max()) for y in whole), default=0)
    return [str(number) for number in range(min(max(largest, 0) + 1, MAX_CLASSES))]


def check_images(array: str, x: np.ndarray) -> None:
    """uint8 [N,C,H,W] with at least one pixel; `array` is what the message calls it."""
    if x.dtype != np.uint8:
        nan = " and holds NaN" if x.dtype.kind == "f" and np.isnan(x).any() else ""
        raise InputError(
            f"{array} is {x.dtype}{nan} but images must be uint8: save (255 * x).round().astype('uint8')"
            " where values are in [0, 1], x.astype('uint8') where they are whole numbers from 0 to 255."
        )
    if x.ndim != 4:
        raise InputError(
            f"{array} has {x.ndim} axes, {shape_text(x.shape)}: give images as [N,H,W] or with one axis of channels."
        )
    if x.size == 0:
        raise InputError(f"{array} is empty, {shape_text(x.shape)}: give at least one image of at least one pixel.")


def check_pixels(images: np.ndarray) -> None:
    """The same for images that the partition is asked for, of which there may be none."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise InputError(f"images are {images.dtype} with {images.ndim} axes: the partition needs uint8 [N,C,H,W].")


def check_labels(array: str, y: np.ndarray, num_classes: int) -> None:
    """Integers [N] in 0..num_classes-1."""
    if y.dtype.kind not in "iu":
        raise InputError(f"{array} is {y.dtype} but labels must be whole numbers 0, 1, ...: save y.astype('int64').")
    if y.ndim != 1:
        raise InputError(
            f"{array} has shape {shape_text(y.shape)}: give one label per image, [N] (of one-hot rows the argmax)."
        )
    if y.size and (int(y.min()) < 0 or int(y.max()) >= num_classes):
        raise InputError(
            f"{array} holds labels from {y.min()} to {y.max()}, allowed are 0 to {num_classes - 1}"
            f" (and at most {MAX_CLASSES} classes): number the classes 0, 1, ...."
        )


def informative_sums(where: str, sums: np.ndarray | None, images: np.ndarray) -> np.ndarray | None:
    """pixel_sum as int64, or None where it is that of the images themselves."""
    if sums is None:
        return None
    if sums.shape != (len(images),) or sums.dtype.kind not in "iu":
        raise InputError(
            f"{where}: pixel_sum is {sums.dtype} {shape_text(sums.shape)}: give one whole number per training image."
        )
    return None if np.array_equal(sums, image_sums(images)) else sums.astype(np.int64)


def shape_text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
