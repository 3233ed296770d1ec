"""Assign every training sample to one of k partitions, in an order that depends on content alone.

Source: Levine & Feizi, "Deep Partition Aggregation", ICLR 2021, section 3: partition(x) = (sum of the uint8
pixel values over all channels) mod k. The label is not hashed, so that flipping it stays inside one
partition. Within a partition samples are ordered by content, and its channel statistics are exact, so that
nothing depends on the order of the files. Work goes partition by partition: images may be memory-mapped and
larger than memory.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mithridate import artefacts
from mithridate.data.checks import CHUNK_BYTES, image_sums
from mithridate.errors import InputError

Hash = Literal["pixel_sum", "content"]

STD_FLOOR = 1e-3  # in units of the [0, 1] scale; public, so that a single-colour subset is normalised like any other
KEY_BYTES = 1 << 28  # sort keys held at once
MANY_EMPTY = 0.2


@dataclass(frozen=True, eq=False)
class Subsets:
    """Who is shown what: bucket int64 [N] of every sample, per subset the sample numbers in content order
    (int64), channel mean and standard deviation float64 [k,C] in units of the [0, 1] scale, and the SHA-256
    of the data set.

    d is the number of subsets that a bucket goes into and shifts [d] which: 1 and [0] in DPA.
    """

    bucket: np.ndarray
    indices: list[np.ndarray]
    mean: np.ndarray
    std: np.ndarray
    shifts: np.ndarray
    k: int
    d: int
    hash: str
    sha256: str

    @property
    def sizes(self) -> np.ndarray:
        """Samples per subset, int64."""
        return np.array([len(rows) for rows in self.indices], np.int64)

    @property
    def empty(self) -> int:
        """Subsets without a sample; their base classifiers are constant."""
        return int((self.sizes == 0).sum())


def partition_indices(
    images: np.ndarray, labels: np.ndarray, k: int, sums: np.ndarray | None = None, hash: Hash = "pixel_sum"
) -> list[np.ndarray]:
    """Sample numbers of each of the k partitions, in content order.

    images uint8 [N,C,H,W], labels integers [N], sums: pixel sums [N] where they are not those of `images`.
    Where k > N some partitions are empty, which is sound. Raises InputError for k < 1 and for arrays of other
    types.
    """
    return content_order(images, labels, buckets(images, k, sums, hash), k)


def buckets(images: np.ndarray, k: int, sums: np.ndarray | None = None, hash: Hash = "pixel_sum") -> np.ndarray:
    """The partition of every image, int64 [N] in 0..k-1.

    pixel_sum: (sums, or the image's own sum) mod k. content: SHA-256 of the image's uint8 pixels in C,H,W
    order, read as a big-endian number, mod k; for resized data these are the pixels as stored, and `sums` is
    not used.
    """
    if k < 1:
        raise InputError(f"the number of partitions (dpa.k) is {k}: give a whole number of at least 1.")
    _check_pixels(images)
    if hash == "content":
        return np.array([_digest(image) % k for image in images], np.int64)
    if hash != "pixel_sum":
        raise InputError(f"the partition's hash (dpa.hash) is {hash!r}: give pixel_sum or content.")
    if sums is None:
        sums = image_sums(images)
    elif sums.shape != (len(images),) or sums.dtype.kind not in "iu":
        raise InputError(f"there are {len(images)} images but pixel sums are {sums.dtype} {sums.shape}: give one each.")
    return (sums % k).astype(np.int64)


def content_order(images: np.ndarray, labels: np.ndarray, bucket: np.ndarray, k: int) -> list[np.ndarray]:
    """The samples of each of k buckets in lexicographic order: the last pixel of the flattened C,H,W vector
    is the first key, then the one before it, ..., the first pixel, then the label; what `np.lexsort` does on
    the transposed rows [label, pixels...]. Equal samples keep their order."""
    _check_pixels(images)
    labels = np.asarray(labels)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise InputError(f"there are {len(images)} images but labels are {labels.dtype} {labels.shape}: give one each.")
    by_bucket = np.argsort(bucket, kind="stable").astype(np.int64)
    ends = np.cumsum(np.bincount(bucket, minlength=k))[:-1]
    flat = images.reshape(len(images), -1)
    return [_sorted(flat, labels, rows) for rows in np.split(by_bucket, ends)]


def channel_statistics(
    images: np.ndarray, scale: float, floor: float = STD_FLOOR, rows: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased standard deviation of each channel over all pixels of uint8 images [n,C,H,W] (of
    `rows` of them), times `scale`: float64 [C] each.

    A total function: no image gives mean 0 and deviation 1, and deviations (that of one pixel is 0) are at
    least `floor`. Sums of x and x² are whole numbers, so that the order of the images changes no bit.
    """
    _check_pixels(images)
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


def make_subsets(
    images: np.ndarray,
    labels: np.ndarray,
    k: int,
    *,
    scale: float,
    sums: np.ndarray | None = None,
    hash: Hash = "pixel_sum",
    sha256: str = "",
) -> Subsets:
    """Partition a training set (see partition_indices); `sha256` is that of the data set."""
    bucket = buckets(images, k, sums, hash)
    indices = content_order(images, labels, bucket, k)
    statistics = [channel_statistics(images, scale, rows=rows) for rows in indices]
    mean, std = (np.stack(values) for values in zip(*statistics, strict=True))
    return Subsets(bucket, indices, mean, std, np.zeros(1, np.int64), k, 1, hash, sha256)


def save_subsets(path: str | Path, subsets: Subsets, provenance: Mapping[str, Any]) -> None:
    """Write subsets.h5: bucket, indices (all lists, one after another), offsets [k+1], mean, std, shifts."""
    arrays = {
        "bucket": subsets.bucket,
        "indices": np.concatenate(subsets.indices),
        "offsets": np.concatenate([[0], np.cumsum(subsets.sizes)]).astype(np.int64),
        "mean": subsets.mean,
        "std": subsets.std,
        "shifts": subsets.shifts,
    }
    attributes = {
        "k": subsets.k,
        "d": subsets.d,
        "hash": subsets.hash,
        "sha256": subsets.sha256,
        "std_floor": STD_FLOOR,
        "empty": subsets.empty,
    }
    artefacts.write_hdf5(path, arrays, attributes, provenance)


def load_subsets(path: str | Path) -> Subsets:
    """Read subsets.h5. Raises InputError for a missing, foreign, damaged or inconsistent file."""
    names = ("bucket", "indices", "offsets", "mean", "std", "shifts")
    bucket, indices, offsets, mean, std, shifts = artefacts.read_hdf5(path, *names).values()
    attributes = artefacts.read_attributes(path)
    try:
        k, d, hash, sha256 = (attributes[key] for key in ("k", "d", "hash", "sha256"))
    except KeyError as error:
        raise InputError(f"{path} has no attribute {error}: delete it and make it again.") from error
    if not _consistent(bucket, indices, offsets, mean, std, k * d, d):
        raise InputError(f"{path} contradicts itself (damaged?): delete it and make it again.")
    return Subsets(bucket, np.split(indices, offsets[1:-1]), mean, std, shifts, k, d, hash, sha256)


def empty_share_warning(sizes: Sequence[int] | np.ndarray) -> str | None:
    """A sentence where more than a fifth of the partitions are empty, else None."""
    k, empty = len(sizes), int((np.asarray(sizes) == 0).sum())
    if empty <= MANY_EMPTY * k:
        return None
    return (
        f"warning: {empty} of {k} partitions are empty ({empty / k:.0%}) and have constant classifiers,"
        " which is sound but costs accuracy: lower dpa.k, or set dpa.hash: content where pixel sums take few"
        " values."
    )


def _sorted(flat: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`rows` of the pixels [N,P] in content order: stable sorts from the least significant key on, as many
    pixels at a time as KEY_BYTES allow, compared as byte strings."""
    order = rows[np.argsort(labels[rows], kind="stable")]
    width = max(1, KEY_BYTES // max(1, len(rows)))
    for start in range(0, flat.shape[1], width):
        keys = np.ascontiguousarray(flat[order, start : start + width][:, ::-1])
        order = order[np.argsort(keys.view(f"S{keys.shape[1]}")[:, 0], kind="stable")]
    return order


def _digest(image: np.ndarray) -> int:
    return int.from_bytes(hashlib.sha256(image.tobytes()).digest(), "big")


def _check_pixels(images: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise InputError(f"images are {images.dtype} with {images.ndim} axes: the partition needs uint8 [N,C,H,W].")


def _consistent(
    bucket: np.ndarray,
    indices: np.ndarray,
    offsets: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    count: int,
    d: int,
) -> bool:
    """Whether the `count` lists fit together and name every sample d times."""
    return bool(
        offsets.shape == (count + 1,)
        and offsets[0] == 0
        and offsets[-1] == len(indices)
        and (np.diff(offsets) >= 0).all()
        and mean.shape == std.shape
        and len(mean) == count
        and np.array_equal(np.sort(indices), np.arange(len(bucket)).repeat(d))
    )
