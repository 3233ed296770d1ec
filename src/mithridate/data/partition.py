"""Assign every training sample to one of k partitions, or to d of k·d subsets, in an order that depends on content
alone.

Sources: Levine & Feizi, "Deep Partition Aggregation", ICLR 2021, section 3: partition(x) = (sum of the uint8
pixel values over all channels) mod k. The label is not hashed, so that flipping it stays inside one
partition. Wang, Levine & Feizi, "Improved Certified Defenses against Data Poisoning with (Deterministic)
Finite Aggregation", ICML 2022: the hash mod k·d is the sample's bucket, and every bucket goes into d of k·d subsets.
Within a subset samples are ordered by content, and its channel statistics are exact, so that nothing depends
on the order of the files. Work goes subset by subset: images may be memory-mapped and larger than memory.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mithridate import artefacts
from mithridate.data.checks import check_pixels, image_sums
from mithridate.data.order import STD_FLOOR, channel_statistics, content_order
from mithridate.errors import InputError

Hash = Literal["pixel_sum", "content"]

SHIFT_SEED = 1_000_000_207  # that of the published code, so that its subsets are these
MANY_EMPTY = 0.2


@dataclass(frozen=True, eq=False)
class Subsets:
    """Who is shown what, for n = k·d subsets: bucket int64 [N] of every sample in 0..n-1, per subset the sample numbers
    in content order (int64), channel mean and standard deviation float64 [n,C] in units of the [0, 1] scale, and
    the SHA-256 of the data set.

    Bucket h goes into the subsets (h + s) mod n for every s of shifts int64 [d]; with d = 1 and shift 0 (DPA)
    buckets, subsets and partitions are the same.
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
    check_pixels(images)
    if hash == "content":
        return np.array([_digest(image) % k for image in images], np.int64)
    if hash != "pixel_sum":
        raise InputError(f"the partition's hash (dpa.hash) is {hash!r}: give pixel_sum or content.")
    if sums is None:
        sums = image_sums(images)
    elif sums.shape != (len(images),) or sums.dtype.kind not in "iu":
        raise InputError(f"there are {len(images)} images but pixel sums are {sums.dtype} {sums.shape}: give one each.")
    return (sums % k).astype(np.int64)


def draw_shifts(k: int, d: int) -> np.ndarray:
    """The d distinct numbers in 0..k·d-1 by which buckets are shifted into subsets, int64: 0 for d = 1, else those of
    the published code. They are public constants: the certificate holds for any.

    Raises InputError for k < 1 and d < 1.
    """
    for key, value in (("dpa.k", k), ("dpa.d", d)):
        if value < 1:
            raise InputError(f"{key} is {value}: give a whole number of at least 1.")
    drawn = [0] if d == 1 else random.Random(SHIFT_SEED).sample(range(k * d), d)
    return np.array(drawn, np.int64)


def make_subsets(
    images: np.ndarray,
    labels: np.ndarray,
    k: int,
    d: int = 1,
    *,
    scale: float,
    sums: np.ndarray | None = None,
    hash: Hash = "pixel_sum",
    sha256: str = "",
) -> Subsets:
    """The k·d subsets of a training set (d = 1: see partition_indices); `sha256` is that of the data set.

    A subset without samples is sound: its base classifier is constant.
    """
    shifts, n = draw_shifts(k, d), k * d
    bucket = buckets(images, n, sums, hash)
    indices = content_order(images, labels, bucket, n, shifts)
    statistics = [channel_statistics(images, scale, rows=rows) for rows in indices]
    mean, std = (np.stack(values) for values in zip(*statistics, strict=True))
    return Subsets(bucket, indices, mean, std, shifts, k, d, hash, sha256)


def touched_buckets(before: Subsets, after: Subsets, changed: np.ndarray) -> np.ndarray:
    """Which of the n buckets hold other samples after the samples `changed` (int64 [r]) of a data set were
    replaced: those of the old and those of the new samples, bool [n].

    Raises InputError where the two are not subsets of one data set and its variant in the same setting.
    """
    setting = [(s.k, s.d, s.hash, len(s.bucket), s.shifts.tolist()) for s in (before, after)]
    if setting[0] != setting[1]:
        raise InputError(
            "the subsets before and after poisoning differ in dpa.k, dpa.d, dpa.hash or samples: make anew."
        )
    moved = np.flatnonzero(before.bucket != after.bucket)
    if not np.isin(moved, changed).all():
        raise InputError(
            "samples outside of poisoned_index are in other buckets: make the variant and its subsets anew."
        )
    touched = np.zeros(before.k * before.d, bool)
    touched[before.bucket[changed]] = touched[after.bucket[changed]] = True
    return touched


def touched_subsets(before: Subsets, after: Subsets, changed: np.ndarray) -> np.ndarray:
    """Which of the n subsets hold a touched bucket, bool [n]: no other base classifier is shown anything else
    than before. Arguments and errors are those of touched_buckets."""
    touched = touched_buckets(before, after, changed)
    return np.any([np.roll(touched, shift) for shift in before.shifts], axis=0)


def save_subsets(path: str | Path, subsets: Subsets, provenance: Mapping[str, Any]) -> None:
    """Write subsets.h5: bucket, indices (all lists, one after another), offsets [n+1], mean, std, shifts."""
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
    if not _consistent(bucket, indices, offsets, mean, std, shifts, k * d, d):
        raise InputError(f"{path} contradicts itself (damaged?): delete it and make it again.")
    return Subsets(bucket, np.split(indices, offsets[1:-1]), mean, std, shifts, k, d, hash, sha256)


def empty_share_warning(sizes: Sequence[int] | np.ndarray) -> str | None:
    """A sentence where more than a fifth of the partitions (subsets) are empty, else None."""
    count, empty = len(sizes), int((np.asarray(sizes) == 0).sum())
    if empty <= MANY_EMPTY * count:
        return None
    return (
        f"warning: {empty} of {count} partitions are empty ({empty / count:.0%}) and have constant classifiers,"
        " which is sound but costs accuracy: lower dpa.k or dpa.d, or set dpa.hash: content where pixel sums"
        " take few values."
    )


def _digest(image: np.ndarray) -> int:
    return int.from_bytes(hashlib.sha256(image.tobytes()).digest(), "big")


def _consistent(
    bucket: np.ndarray,
    indices: np.ndarray,
    offsets: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    shifts: np.ndarray,
    n: int,
    d: int,
) -> bool:
    """Whether the n lists fit together and name every sample d times: in the subsets that its bucket and the
    shifts say."""
    fits = (
        offsets.shape == (n + 1,)
        and offsets[0] == 0
        and offsets[-1] == len(indices) == d * len(bucket)
        and (np.diff(offsets) >= 0).all()
        and mean.shape == std.shape
        and len(mean) == n
        and shifts.shape == (d,)
        and all(_within(numbers, count) for numbers, count in ((bucket, n), (shifts, n), (indices, len(bucket))))
        and len(np.unique(shifts)) == d
    )
    if not fits:
        return False
    subset = np.arange(n).repeat(np.diff(offsets))
    expected = (bucket + shifts[:, None]) % n * len(bucket) + np.arange(len(bucket))
    return np.array_equal(np.sort(subset * len(bucket) + indices), np.sort(expected, axis=None))


def _within(numbers: np.ndarray, count: int) -> bool:
    return bool(((numbers >= 0) & (numbers < count)).all())
