"""Rows per test image, certified-accuracy curves, summaries, and certification block by block."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mithridate.certify.aggregation import vote_counts
from mithridate.certify.collective import collective
from mithridate.certify.intervals import clopper_pearson
from mithridate.certify.methods import METHODS
from mithridate.certify.runoff import certify_runoff
from mithridate.certify.streaming import certify_blocks
from mithridate.certify.tables import collective_curve, curve, example_rows, summary
from mithridate.errors import InputError

NAMES = {"dataset": "cifar10", "variant": "clean", "k": 50, "confidence": 0.95}


def ensemble(n: int = 60, k: int = 7, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    stream = np.random.default_rng(seed)
    labels = stream.integers(0, classes, n)
    scores = stream.integers(0, 4, (n, k, classes)).astype(np.float32)
    scores[np.arange(n), :, labels] += stream.integers(0, 4, (n, 1))
    return scores, labels


def rows_of(radii: list[int], correct: list[bool], method: str = "dpa") -> pd.DataFrame:
    return pd.DataFrame({"method": method, "radius": radii, "correct": correct})


def members_of(sizes: list[int], flags: list[str] | None = None) -> pd.DataFrame:
    accuracy = np.linspace(0.25, 0.75, len(sizes))
    flags = flags or ["fitted"] * len(sizes)
    return pd.DataFrame({"size": sizes, "flag": flags, "base_accuracy": accuracy})


def test_example_rows_of_dpa():
    scores = np.zeros((2, 5, 3), np.float32)
    scores[0, np.arange(5), [1, 1, 1, 0, 2]] = 1
    scores[1, np.arange(5), [2, 2, 2, 2, 2]] = 1
    table = example_rows(scores, np.array([0, 2]), "dpa", start_index=10)
    assert table.to_dict("list") == {
        "index": [10, 11],
        "method": ["dpa", "dpa"],
        "label": [0, 2],
        "prediction": [1, 2],
        "votes": [3, 5],
        "runner_up": [1, 0],
        "radius": [0, 2],
        "correct": [False, True],
    }


def test_example_rows_of_the_runoff_count_round_1():
    scores = np.array([3 * [[3, 2, 1]] + 2 * [[1, 3, 2]] + 2 * [[1, 2, 3]]])
    table = example_rows(scores, np.array([1]), "runoff")
    assert table[["prediction", "votes", "runner_up", "correct"]].values.tolist() == [[1, 2, 3, True]]
    many, labels = ensemble()
    assert example_rows(many, labels, "runoff")["radius"].tolist() == certify_runoff(many)[1].tolist()


def test_an_unknown_method_is_refused():
    with pytest.raises(InputError, match="dpa, runoff"):
        example_rows(*ensemble(), "bagging")


def test_curve_counts_right_and_certified_images_and_ends_at_zero():
    rows = rows_of([0, 1, 1, 3, 9], [True, True, True, True, False])
    table = curve(rows, **NAMES)
    assert list(table) == [
        *("dataset", "variant", "inputs", "trigger", "k", "d", "seeds", "method"),
        *(
            "certificate_kind",
            "radius_meaning",
            "radius",
            "certified_accuracy",
            "ci_low",
            "ci_high",
            "n_test",
        ),
    ]
    assert table["radius"].tolist() == [0, 1, 2, 3, 4]
    assert table["certified_accuracy"].tolist() == [0.8, 0.6, 0.2, 0.2, 0]
    low, high = clopper_pearson(np.array([4, 3, 1, 1, 0]), 5, 0.95)
    assert table["ci_low"].tolist() == low.tolist()
    assert table["ci_high"].tolist() == high.tolist()
    constants = table.drop(columns=["radius", "certified_accuracy", "ci_low", "ci_high"]).drop_duplicates()
    assert constants.values.tolist() == [
        ["cifar10", "clean", "clean", "", 50, 1, 1, "dpa", "pointwise", "from_clean", 5]
    ]


def test_curve_of_a_family_that_is_never_right():
    table = curve(rows_of([2, 3], [False, False]), **NAMES)
    assert table[["radius", "certified_accuracy"]].values.tolist() == [[0, 0]]


def test_curve_keeps_methods_apart():
    rows = pd.concat([rows_of([1, 1], [True, True]), rows_of([0, 2], [True, True], "runoff")])
    table = curve(rows, **NAMES, inputs="triggered", trigger="square")
    parts = {method: part["certified_accuracy"].tolist() for method, part in table.groupby("method")}
    assert parts == {"dpa": [1, 1, 0], "runoff": [1, 0.5, 0.5, 0]}
    assert set(table["trigger"]) == {"square"}


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=40))
def test_curve_is_the_definition(examples):
    radii, correct = (np.array(part) for part in zip(*examples, strict=True))
    table = curve(rows_of(radii.tolist(), correct.tolist()), **NAMES)
    expected = [(correct & (radii >= r)).mean() for r in range(len(table))]
    assert table["certified_accuracy"].tolist() == pytest.approx(expected)
    assert expected[-1] == 0
    assert (table["certified_accuracy"].iloc[:-1] > 0).all()


def test_summary_in_three_units():
    rows = rows_of([5, 5, 9, 0], [True, True, True, False])
    members = members_of([3] * 48 + [0, 13], ["fitted"] * 47 + ["diverged", "empty", "fitted"])
    row = summary(rows, members, **NAMES).iloc[0]
    assert (row["method"], row["n_test"], row["clean_accuracy"]) == ("dpa", 4, 0.75)
    assert (row["ci_low"], row["ci_high"]) == clopper_pearson(3, 4, 0.95)
    assert row["base_accuracy"] == pytest.approx(0.5)
    assert (row["base_accuracy_min"], row["base_accuracy_max"]) == (0.25, 0.75)
    assert (row["median_printed"], row["median_radius"]) == (6, 5)
    assert row["median_insertions_or_deletions"] == row["median_label_flips"] == 5
    assert row["median_image_replacements"] == 2
    assert (row["partition_min"], row["partition_mean"], row["partition_max"]) == (0, 3.14, 13)
    deviations = members["size"] - 3.14
    assert row["partition_skew"] == pytest.approx((deviations**3).mean() / (deviations**2).mean() ** 1.5)
    assert (row["empty_members"], row["flagged_members"]) == (1, 2)


@pytest.mark.parametrize(("right", "printed"), [(3, 2), (2, 2), (1, 0)])
def test_exactly_one_half_is_enough_for_the_median(right, printed):
    row = summary(rows_of([1] * 4, [True] * right + [False] * (4 - right)), members_of([2]), **{**NAMES, "k": 1}).iloc[
        0
    ]
    assert row["median_printed"] == printed
    assert pd.isna(row["median_radius"]) == (printed == 0)


def test_no_median_and_equal_sizes_leave_cells_empty():
    table = summary(rows_of([3, 3, 3], [True, False, False]), members_of([4, 4]), **{**NAMES, "k": 2})
    line = dict(zip(*(text.split(",") for text in table.to_csv(index=False).splitlines()), strict=True))
    empty = {name for name, text in line.items() if text == ""}
    assert empty == {
        *(
            "median_radius",
            "median_insertions_or_deletions",
            "median_label_flips",
            "median_image_replacements",
        ),
        "partition_skew",
    }
    assert line["median_printed"] == "0"


def test_a_family_of_another_size_and_empty_rows_are_refused():
    with pytest.raises(InputError, match="2 rows instead of k·d=50"):
        summary(rows_of([1], [True]), members_of([1, 1]), **NAMES)
    with pytest.raises(InputError, match="empty"):
        curve(rows_of([], []), **NAMES)


def test_overlapping_subsets_have_k_times_d_members():
    rows = rows_of([1, 0], [True, True])
    row = summary(rows, members_of([2] * 100), **NAMES, d=2).iloc[0]
    assert (row["k"], row["d"], row["seeds"]) == (50, 2, 1)
    boosted = summary(rows, members_of([2] * 50), **NAMES, seeds=3).iloc[0]
    assert (boosted["d"], boosted["seeds"]) == (1, 3)
    with pytest.raises(InputError, match="50 rows instead of k·d=100"):
        summary(rows, members_of([2] * 50), **NAMES, d=2)
    assert set(curve(rows, **NAMES, d=4, seeds=2)["d"]) == {4}


def test_the_collective_curve_has_the_columns_of_the_others_and_no_intervals():
    scores, labels = ensemble()
    found = collective(scores.argmax(2), labels, 4, [3, 1])
    table = collective_curve(pd.DataFrame(found), dataset="cifar10", variant="clean", k=7)
    other = curve(example_rows(scores, labels, "dpa"), **{**NAMES, "k": 7})
    assert list(table) == list(other)
    assert table[["method", "certificate_kind", "d", "n_test"]].drop_duplicates().values.tolist() == [
        ["collective", "collective", 1, 60]
    ]
    assert table["radius"].tolist() == [3, 1]
    assert table["certified_accuracy"].tolist() == [one.accuracy for one in found]
    assert table[["ci_low", "ci_high"]].isna().all(axis=None)
    both = pd.concat([other, table], ignore_index=True)
    assert both["radius"].dtype.kind == "i"


# ---- Block by block ----


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=6))
def test_blocks_of_any_size_give_the_same_rows(cuts):
    scores, labels = ensemble()
    for methods, shifts in ((["dpa", "runoff"], None), (["finite", "finite_runoff"], np.array([0, 3]))):
        assert set(methods) <= set(METHODS)
        whole = certify_blocks([scores], labels, methods, shifts=shifts)
        parts = certify_blocks(iter(np.split(scores, sorted(cuts))), labels, methods, shifts=shifts)
        pd.testing.assert_frame_equal(parts.rows, whole.rows)
        assert parts.rows.to_csv(index=False) == whole.rows.to_csv(index=False)
        assert np.array_equal(parts.base_accuracy, whole.base_accuracy)


def test_columns_in_any_order_are_certified_by_their_subset_numbers():
    scores, labels = ensemble()
    order, shifts = np.random.default_rng(0).permutation(scores.shape[1]), np.array([0, 3])
    whole = certify_blocks([scores], labels, ["finite", "finite_runoff"], shifts=shifts)
    mixed = certify_blocks([scores[:, order]], labels, ["finite", "finite_runoff"], subset_ids=order, shifts=shifts)
    pd.testing.assert_frame_equal(mixed.rows, whole.rows)
    assert np.array_equal(mixed.base_accuracy, whole.base_accuracy)


def test_certificates_of_disjoint_subsets_are_refused_for_overlapping_ones():
    scores, labels = ensemble()
    for method in ("dpa", "runoff"):
        with pytest.raises(InputError, match="one sample touches"):
            certify_blocks([scores], labels, [method], shifts=np.array([0, 3]))
        with pytest.raises(InputError, match="one sample touches"):
            example_rows(scores, labels, method, shifts=[3])
        example_rows(scores, labels, method, shifts=[0])
    for method in ("finite", "finite_runoff"):
        with pytest.raises(InputError, match=r"scores\.h5 comes without"):
            certify_blocks([scores], labels, ["dpa", method], where="scores.h5")


def test_certify_blocks_joins_methods_and_counts_members():
    scores, labels = ensemble()
    found = certify_blocks(np.array_split(scores, 4), labels, ["runoff", "dpa"])
    expected = pd.concat([example_rows(scores, labels, m) for m in ("runoff", "dpa")], ignore_index=True)
    pd.testing.assert_frame_equal(found.rows, expected)
    assert found.base_accuracy.tolist() == (scores.argmax(2) == labels[:, None]).mean(0).tolist()
    assert vote_counts(scores).sum() == scores.shape[0] * scores.shape[1]


def test_columns_are_subset_numbers():
    scores, labels = ensemble()
    ids = np.random.default_rng(1).permutation(scores.shape[1])
    plain = certify_blocks([scores], labels, ["dpa"])
    mixed = certify_blocks([scores[:, ids]], labels, ["dpa"], subset_ids=ids)
    assert len(set(plain.base_accuracy)) > 1
    assert np.array_equal(mixed.base_accuracy, plain.base_accuracy)
    pd.testing.assert_frame_equal(mixed.rows, plain.rows)


def blocks_with(change) -> list[np.ndarray]:
    blocks = np.array_split(ensemble()[0], 3)
    return change(blocks) or blocks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda blocks: blocks[:2], "40 test images, but there are 60 labels"),
        (lambda blocks: [*blocks, blocks[0]], r"20 test images, but the labels have shape \(0,\)"),
        (lambda blocks: [blocks[0], blocks[1][:, :3]], r"\(3, 4\) at test image 20"),
        (lambda blocks: blocks[2].__setitem__((5, 1, 0), np.nan), "test image 45, subset 1, class 0"),
        (lambda blocks: [blocks[0][:0]], "no test images"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        certify_blocks(blocks_with(change), ensemble()[1], ["dpa"], where="scores.h5")
