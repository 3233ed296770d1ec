"""What a subset of the training samples is apart from the order of the files: its samples ordered by content, and its
exact channel statistics. Images may be memory-mapped: only those of one subset are read at a time."""

from collections.abc import Sequence

import numpy as np

from mithridate.data.checks import CHUNK_BYTES, check_pixels
from mithridate.errors import InputError

STD_FLOOR = 1e-3  # in units of the [0, 1] scale; public, so that a single-colour subset is normalised like any other
KEY_BYTES = 1 << 28  # sort keys held at once


def content_order(
    images: np.ndarray, labels: np.ndarray, bucket: np.ndarray, n: int, shifts: Sequence[int] | np.ndarray = (0,)
) -> list[np.ndarray]:
    """The samples of each of n subsets in lexicographic order: the last pixel of the flattened C,H,W vector
    is the first key, then the one before it, ..., the first pixel, then the label; what `np.lexsort` does on
    the transposed rows [label, pixels...]. Equal samples keep their order.

    bucket int64 [N] in 0..n-1; subset j holds the buckets (j - s) mod n for every s of `shifts`.
    """
    check_pixels(images)
    labels = np.asarray(labels)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise InputError(f"there are {len(images)} images but labels are {labels.dtype} {labels.shape}: give one each.")
    by_bucket = np.argsort(bucket, kind="stable").astype(np.int64)
    rows = np.split(by_bucket, np.cumsum(np.bincount(bucket, minlength=n))[:-1])
    flat = images.reshape(len(images), -1)
    unions = (np.sort(np.concatenate([rows[(j - s) % n] for s in shifts])) for j in range(n))
    return [_sorted(flat, labels, union) for union in unions]


def channel_statistics(
    images: np.ndarray, scale: float, floor: float = STD_FLOOR, rows: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased standard deviation of each channel over all pixels of uint8 images [n,C,H,W] (of
    `rows` of them), times `scale`: float64 [C] each.

    A total function: no image gives mean 0 and deviation 1, and deviations (that of one pixel is 0) are at
    least `floor`. Sums of x and x² are whole numbers, so that the order of the images changes no bit.
    """
    check_pixels(images)
    rows = np.arange(len(images)) if rows is None else rows
    channels, pixels = images.shape[1], int(np.prod(images.shape[2:]))
    total, squares = np.zeros(channels, np.uint64), np.zeros(channels, np.uint64)
    step = max(1, CHUNK_BYTES // (channels * pixels))
    for start in range(0, len(rows), step):
        part = images[rows[start : start + step]].reshape(-1, channels, pixels)
        total += part.sum(axis=(0, 2), dtype=np.uint64)
        squares += np.square(part, dtype=np.uint16).sum(axis=(0, 2), dtype=np.uint64)  # 255² fits
    n = len(rows) * pixels
    if n == 0:
        return np.zeros(channels), np.ones(channels)
    # Python's whole numbers: no overflow, and one correctly rounded division.
    mean = [int(s) / n for s in total]
    variance = [(n * int(q) - int(s) ** 2) / (n * max(n - 1, 1)) for s, q in zip(total, squares, strict=True)]
    return np.array(mean) * scale, np.maximum(np.sqrt(variance) * scale, floor)


def _sorted(flat: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`rows` of the pixels [N,P] in content order: stable sorts from the least significant key on, as many
    pixels at a time as KEY_BYTES allow, compared as byte strings."""
    order = rows[np.argsort(labels[rows], kind="stable")]
    width = max(1, KEY_BYTES // max(1, len(rows)))
    for start in range(0, flat.shape[1], width):
        keys = np.ascontiguousarray(flat[order, start : start + width][:, ::-1])
        order = order[np.argsort(keys.view(f"S{keys.shape[1]}")[:, 0], kind="stable")]
    return order
