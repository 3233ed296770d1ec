"""The partition rule: equal to the published one, whatever the order of the files."""

import hashlib
import re
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mithridate.data import order
from mithridate.data.digits import digits
from mithridate.data.order import STD_FLOOR, channel_statistics
from mithridate.data.partition import (
    buckets,
    draw_shifts,
    empty_share_warning,
    load_subsets,
    make_subsets,
    partition_indices,
    save_subsets,
    touched_buckets,
    touched_subsets,
)
from mithridate.errors import InputError
from tests.unit.making import edited


def published(images, labels, k, sums=None):
    """The partition as the paper's code computes it."""
    rows = np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1)
    order = np.lexsort(rows.T)
    sums = images.reshape(len(images), -1).sum(axis=1, dtype=int) if sums is None else sums
    return [order[sums[order] % k == i] for i in range(k)]


def equal(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
        assert x.dtype == np.int64


@st.composite
def samples(draw):
    """Few distinct images, so that many are equal in all or all but the first pixels; labels beyond one byte."""
    n, shape = draw(st.integers(1, 60)), draw(st.sampled_from([(1, 1, 1), (1, 2, 2), (3, 2, 1), (2, 3, 3)]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = draw(st.sampled_from([[0, 255], [0, 1, 2, 128, 254], list(range(256))]))
    distinct = random.choice(values, (draw(st.integers(1, 20)), *shape)).astype(np.uint8)
    images = distinct[random.integers(0, len(distinct), n)]
    return images, random.choice([0, 1, 255, 256, 300, 70_000], n)


@settings(max_examples=200, deadline=None)
@given(samples(), st.integers(1, 12), st.booleans(), st.sampled_from([1, 7, 100, 1 << 28]))
def test_partitions_equal_the_published_code(data, k, given_sums, key_bytes):
    images, labels = data
    sums = np.arange(len(images)) * 3 if given_sums else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "KEY_BYTES", key_bytes)  # also where keys do not fit at once
        equal(partition_indices(images, labels, k, sums), published(images, labels, k, sums))


def finite(images, labels, k, shifts, sums=None):
    """Finite Aggregation by its definition: subset j holds every sample whose bucket h has h + s = j mod n for some s,
    in the published code's order."""
    n = k * len(shifts)
    rows = np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1)
    order = np.lexsort(rows.T)
    sums = images.reshape(len(images), -1).sum(axis=1, dtype=int) if sums is None else sums
    return [np.array([i for i in order if (j - sums[i] % n) % n in shifts], np.int64) for j in range(n)]


@settings(max_examples=100, deadline=None)
@given(samples(), st.integers(1, 6), st.integers(1, 5), st.booleans())
def test_finite_aggregations_subsets_are_unions_of_buckets_in_content_order(data, k, d, given_sums):
    images, labels = data
    sums = np.arange(len(images)) * 7 if given_sums else None
    made = make_subsets(images, labels, k, d, scale=1 / 255, sums=sums)
    equal(made.indices, finite(images, labels, k, made.shifts.tolist(), sums))
    np.testing.assert_array_equal(np.sort(np.concatenate(made.indices)), np.arange(len(images)).repeat(d))
    for rows, mean, std in zip(made.indices, made.mean, made.std, strict=True):
        np.testing.assert_array_equal((mean, std), channel_statistics(images, 1 / 255, rows=rows))
    if d == 1:
        equal(made.indices, partition_indices(images, labels, k, sums))


def test_shifts_are_the_published_ones():
    assert draw_shifts(50, 2).tolist() == [45, 11]
    published = [363, 90, 492, 37, 157, 206, 304, 284, 280, 323, 331, 509, 536, 777, 102, 110]
    assert draw_shifts(50, 16).tolist() == published
    for k, d in ((50, 1), (1, 3), (1200, 16), (2, 5)):
        shifts = draw_shifts(k, d)
        assert shifts.dtype == np.int64
        assert len(set(shifts.tolist())) == d
        assert ((shifts >= 0) & (shifts < k * d)).all()
    assert draw_shifts(50, 1).tolist() == [0]


@pytest.mark.parametrize(("k", "d", "sentence"), [(0, 1, "dpa.k is 0"), (3, 0, "dpa.d is 0"), (3, -2, "dpa.d is -2")])
def test_impossible_numbers_of_subsets_are_refused(k, d, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        make_subsets(IMAGES, LABELS, k, d, scale=1 / 255)


@settings(max_examples=50, deadline=None)
@given(samples(), st.integers(1, 12), st.integers(1, 3), st.integers(0, 2**32))
def test_the_order_of_the_files_changes_nothing(data, k, d, seed):
    images, labels = data
    shuffle = np.random.default_rng(seed).permutation(len(images))
    one = make_subsets(images, labels, k, d, scale=1 / 255)
    other = make_subsets(images[shuffle], labels[shuffle], k, d, scale=1 / 255)
    for rows, shuffled in zip(one.indices, other.indices, strict=True):
        np.testing.assert_array_equal(images[rows], images[shuffle][shuffled])
        np.testing.assert_array_equal(labels[rows], labels[shuffle][shuffled])
    assert one.mean.tobytes() == other.mean.tobytes()
    assert one.std.tobytes() == other.std.tobytes()


def test_one_changed_sample_changes_only_the_partitions_of_its_hashes():
    made = digits()
    images = made.x_train.copy()
    before = make_subsets(images, made.y_train, 50, scale=1 / 16)
    images[100, 0, 3, 3] ^= 8
    after = make_subsets(images, made.y_train, 50, scale=1 / 16)
    touched = {before.bucket[100], after.bucket[100]}
    assert len(touched) == 2
    for i in set(range(50)) - touched:
        np.testing.assert_array_equal(before.indices[i], after.indices[i])
        assert before.mean[i].tobytes() + before.std[i].tobytes() == after.mean[i].tobytes() + after.std[i].tobytes()
    flipped = made.y_train.copy()
    flipped[100] = (flipped[100] + 1) % 10
    np.testing.assert_array_equal(buckets(images, 50), after.bucket)
    relabelled = partition_indices(images, flipped, 50)
    equal([np.sort(rows) for rows in relabelled], [np.sort(rows) for rows in after.indices])


@settings(max_examples=100, deadline=None)
@given(
    samples(), st.integers(1, 8), st.integers(1, 4), st.sampled_from(["pixel_sum", "content"]), st.integers(0, 2**32)
)
def test_subsets_without_a_touched_bucket_hold_the_same_samples_in_the_same_order(data, k, d, hash, seed):
    images, labels = data
    random = np.random.default_rng(seed)
    changed = random.permutation(len(images))[: random.integers(0, len(images) + 1)]
    poisoned, relabelled = images.copy(), labels.copy()
    poisoned[changed, :, -1, -1] = random.integers(0, 256)
    relabelled[changed] = 256
    before, after = (
        make_subsets(x, y, k, d, scale=1 / 255, hash=hash) for x, y in ((images, labels), (poisoned, relabelled))
    )
    buckets_touched, touched = touched_buckets(before, after, changed), touched_subsets(before, after, changed)
    assert buckets_touched.shape == touched.shape == (k * d,)
    assert set(np.flatnonzero(buckets_touched)) == {*before.bucket[changed], *after.bucket[changed]}
    reached = {(h + s) % (k * d) for h in np.flatnonzero(buckets_touched) for s in before.shifts.tolist()}
    assert set(np.flatnonzero(touched)) == reached
    for j in np.flatnonzero(~touched):
        np.testing.assert_array_equal(before.indices[j], after.indices[j])
        np.testing.assert_array_equal(images[before.indices[j]], poisoned[after.indices[j]])
        np.testing.assert_array_equal(labels[before.indices[j]], relabelled[after.indices[j]])
        assert before.mean[j].tobytes() + before.std[j].tobytes() == after.mean[j].tobytes() + after.std[j].tobytes()


def test_touched_subsets_need_the_same_setting_and_all_changed_samples():
    made = digits()
    images = made.x_train[:50].copy()
    before = make_subsets(images, made.y_train[:50], 5, 2, scale=1 / 16)
    images[[3, 8], 0, 0, 0] += 1
    after = make_subsets(images, made.y_train[:50], 5, 2, scale=1 / 16)
    assert touched_buckets(before, after, np.array([3, 8])).sum() >= 2
    with pytest.raises(InputError, match="outside of poisoned_index"):
        touched_buckets(before, after, np.array([3]))
    for k, d, rows in ((5, 1, 50), (10, 1, 50), (5, 2, 49)):
        other = make_subsets(images[:rows], made.y_train[:rows], k, d, scale=1 / 16)
        with pytest.raises(InputError, match=r"differ in dpa\.k, dpa\.d"):
            touched_subsets(before, other, np.array([3, 8]))


def test_digits_fill_fifty_partitions():
    sizes = np.bincount(buckets(digits().x_train, 50), minlength=50)
    assert sizes.sum() == 1437
    assert (sizes.min(), sizes.max()) == (17, 41)


def test_the_content_hash_is_sha256_of_the_pixels_without_the_label():
    images = digits().x_train[:40]
    expected = [int(hashlib.sha256(image.tobytes()).hexdigest(), 16) % 7 for image in images]
    np.testing.assert_array_equal(buckets(images, 7, hash="content"), expected)
    np.testing.assert_array_equal(buckets(images, 7, np.arange(40), hash="content"), expected)
    turned = images.transpose(0, 1, 3, 2).copy().transpose(0, 1, 3, 2)  # other strides, same pixels
    np.testing.assert_array_equal(buckets(turned, 7, hash="content"), expected)
    equal([np.sort(p) for p in partition_indices(images, np.arange(40), 7, hash="content")], [
        np.flatnonzero(np.array(expected) == i) for i in range(7)
    ])  # fmt: skip


def test_the_content_hash_fills_partitions_that_pixel_sums_leave_empty():
    images = (digits().x_train > 8).astype(np.uint8) * np.uint8(255)
    assert len(np.unique(buckets(images, 50))) <= 10
    assert len(np.unique(buckets(images, 50, hash="content"))) == 50


def test_more_partitions_than_samples_leave_empty_ones():
    images, labels = digits().x_train[:10], digits().y_train[:10]
    finite = make_subsets(images, labels, 100, 4, scale=1 / 16)
    assert finite.empty >= 360
    assert finite.sizes.sum() == 40
    made = make_subsets(images, labels, 400, scale=1 / 16)
    assert made.empty >= 390
    assert made.sizes.sum() == 10
    empty = made.sizes == 0
    assert (made.mean[empty] == 0).all()
    assert (made.std[empty] == 1).all()


IMAGES, LABELS = np.zeros((4, 1, 2, 2), np.uint8), np.arange(4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((IMAGES, LABELS, 0), "dpa.k) is 0"),
        ((IMAGES, LABELS, -3), "dpa.k) is -3"),
        ((IMAGES / 255, LABELS, 2), "images are float64"),
        ((IMAGES[:, 0], LABELS, 2), "images are uint8 with 3 axes"),
        ((IMAGES, LABELS[:3], 2), "4 images but labels are int64 (3,)"),
        ((IMAGES, LABELS / 1, 2), "labels are float64"),
        ((IMAGES, LABELS, 2, np.arange(3)), "4 images but pixel sums are int64 (3,)"),
        ((IMAGES, LABELS, 2, np.zeros(4)), "pixel sums are float64"),
        ((IMAGES, LABELS, 2, None, "md5"), "dpa.hash) is 'md5'"),
    ],
)
def test_bad_arguments_are_refused(arguments, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        partition_indices(*arguments)


@pytest.mark.parametrize("scale", [1 / 255, 1 / 16])
def test_statistics_are_those_of_the_pixels(scale):
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 7, 5), dtype=np.uint8)
    rows = np.arange(0, 30, 4)
    mean, std = channel_statistics(images, scale, rows=rows)
    scaled = images[rows] * scale
    np.testing.assert_allclose(mean, scaled.mean((0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(std, scaled.std((0, 2, 3), ddof=1), rtol=1e-13)
    assert mean.dtype == std.dtype == np.float64


def test_statistics_are_the_same_in_pieces_and_do_not_overflow(monkeypatch):
    images = np.full((70_000, 1, 8, 8), 255, np.uint8)  # the sum of squares exceeds 32 bits
    images[0] = 0
    whole = channel_statistics(images, 1.0)
    monkeypatch.setattr(order, "CHUNK_BYTES", 1000)
    np.testing.assert_array_equal(channel_statistics(images[:500], 1.0)[0], images[:500].mean())
    monkeypatch.setattr(order, "CHUNK_BYTES", 300_000)
    np.testing.assert_array_equal(channel_statistics(images, 1.0), whole)
    np.testing.assert_allclose(whole[1], images.std(ddof=1, dtype=np.float64), rtol=1e-9)


@pytest.mark.parametrize(
    ("images", "mean", "std"),
    [
        (np.zeros((0, 2, 3, 3), np.uint8), 0, 1),  # empty
        (np.zeros((5, 2, 3, 3), np.uint8), 0, STD_FLOOR),  # black
        (np.full((1, 2, 1, 1), 51, np.uint8), 0.2, STD_FLOOR),  # one pixel
        (np.full((1, 2, 3, 3), 255, np.uint8), 1, STD_FLOOR),  # one white image
    ],
)
def test_statistics_are_a_total_function(images, mean, std):
    found = channel_statistics(images, 1 / 255)
    np.testing.assert_allclose(found[0], [mean] * 2, rtol=1e-15)
    np.testing.assert_allclose(found[1], [std] * 2)
    assert np.isfinite(images.astype(float) / 255 - found[0][:, None, None]).all()


@pytest.fixture
def subsets():
    made = digits()
    return make_subsets(made.x_train[:60], made.y_train[:60], 8, scale=1 / 16, hash="content", sha256="abc")


@pytest.fixture
def finite_subsets():
    made = digits()
    return make_subsets(made.x_train[:60], made.y_train[:60], 4, 3, scale=1 / 16, sha256="abc")


def test_finite_aggregations_subsets_are_read_as_they_were_written(tmp_path, finite_subsets):
    path = tmp_path / "subsets.h5"
    save_subsets(path, finite_subsets, {})
    loaded = load_subsets(path)
    equal(loaded.indices, finite_subsets.indices)
    np.testing.assert_array_equal(loaded.shifts, finite_subsets.shifts)
    assert (loaded.k, loaded.d, len(loaded.indices)) == (4, 3, 12)


def swap_lists(file):
    """Two samples change places between two subsets: every sample still occurs d times."""
    indices, first = file["indices"][()], file["offsets"][1]
    other = next(i for i in range(first, len(indices)) if indices[i] not in indices[:first])
    indices[[0, other]] = indices[[other, 0]]
    file["indices"][...] = indices


def alias(file):
    """The first sample of subset 1 goes to the end of subset 0, as a number that is none of a sample."""
    end = file["offsets"][1]
    file["offsets"][1] = end + 1
    file["indices"][end] += 60


@pytest.mark.parametrize(
    "damage",
    [
        swap_lists,
        alias,
        lambda file: file["shifts"].__setitem__(0, (file["shifts"][0] + 1) % 12),
        lambda file: file["shifts"].__setitem__(0, file["shifts"][1]),
        lambda file: file["shifts"].__setitem__(0, 12 + file["shifts"][0]),
        lambda file: file["bucket"].__setitem__(0, (file["bucket"][0] + 1) % 12),
        lambda file: file["bucket"].__setitem__(0, file["bucket"][0] + 12),
        lambda file: file["indices"].__setitem__(0, file["indices"][0] + 60),
        lambda file: file["indices"].__setitem__(0, -1),
        lambda file: (file.__delitem__("shifts"), file.create_dataset("shifts", data=np.zeros(1, int))),
        lambda file: (file.__delitem__("shifts"), file.create_dataset("shifts", data=0)),
        lambda file: (file.attrs.__setitem__("k", 12), file.attrs.__setitem__("d", 1)),
    ],
)
def test_subsets_that_contradict_their_shifts_are_named(tmp_path, finite_subsets, damage):
    path = tmp_path / "subsets.h5"
    save_subsets(path, finite_subsets, {})
    with edited(path) as file:
        damage(file)
    with pytest.raises(InputError, match=r"subsets\.h5 contradicts itself"):
        load_subsets(path)


def test_subsets_are_read_as_they_were_written(tmp_path, subsets):
    path = tmp_path / "subsets.h5"
    save_subsets(path, subsets, {"commit": "x"})
    loaded = load_subsets(path)
    equal(loaded.indices, subsets.indices)
    for name in ("bucket", "mean", "std", "shifts"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(subsets, name))
        assert getattr(loaded, name).dtype == getattr(subsets, name).dtype
    assert (loaded.k, loaded.d, loaded.hash, loaded.sha256) == (8, 1, "content", "abc")
    np.testing.assert_array_equal(loaded.sizes, np.bincount(subsets.bucket, minlength=8))
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["offsets"], np.concatenate([[0], np.cumsum(loaded.sizes)]))
        np.testing.assert_array_equal(file["shifts"], [0])
        assert file.attrs["empty"] == 0
        assert file.attrs["std_floor"] == STD_FLOOR
    again = tmp_path / "again.h5"
    save_subsets(again, subsets, {"commit": "x"})
    assert again.read_bytes() == path.read_bytes()


def test_a_shift_must_not_occur_twice(tmp_path, finite_subsets):
    """It would put samples twice into a subset, and the certificate would count that subset twice."""
    made, shifts = digits(), np.array([1, 1, 5])
    images, labels = made.x_train[:60], made.y_train[:60]
    indices = order.content_order(images, labels, finite_subsets.bucket, 12, shifts)
    save_subsets(tmp_path / "subsets.h5", replace(finite_subsets, shifts=shifts, indices=indices), {})
    with pytest.raises(InputError, match="contradicts itself"):
        load_subsets(tmp_path / "subsets.h5")


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file["offsets"].__setitem__(3, 1000),
        lambda file: file["offsets"].__setitem__(8, 61),
        lambda file: file["indices"].__setitem__(0, 60),
        lambda file: file["indices"].__setitem__(0, file["indices"][1]),
        lambda file: file.attrs.__setitem__("k", 9),
        lambda file: (file.__delitem__("std"), file.create_dataset("std", data=np.ones((7, 1)))),
        lambda file: [(file.__delitem__(n), file.create_dataset(n, data=np.ones((7, 1)))) for n in ("mean", "std")],
        lambda file: file.__delitem__("bucket"),
        lambda file: file.attrs.__delitem__("hash"),
    ],
)
def test_damaged_subsets_are_named(tmp_path, subsets, damage):
    path = tmp_path / "subsets.h5"
    save_subsets(path, subsets, {})
    with edited(path) as file:
        damage(file)
    with pytest.raises(InputError, match=r"subsets\.h5 .*"):
        load_subsets(path)


def test_a_warning_says_that_many_partitions_are_empty():
    assert empty_share_warning([1, 1, 1, 1, 0]) is None
    sentence = empty_share_warning(np.array([3, 0, 1, 1, 0]))
    assert "2 of 5 partitions are empty (40%)" in sentence
    assert "lower dpa.k or dpa.d" in sentence
