"""Certificates from a score matrix that is read block by block, so that memory does not grow with the test
set."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from mithridate.certify.aggregation import count_votes, votes
from mithridate.certify.curves import example_rows
from mithridate.certify.methods import check_method
from mithridate.certify.scores_check import check_scores
from mithridate.errors import InputError


class Certified(NamedTuple):
    rows: pd.DataFrame  # see curves.example_rows: all images of the first method, then of the next
    base_accuracy: np.ndarray  # float64 [k], accuracy of each base classifier by subset number


def certify_blocks(
    blocks: Iterable[np.ndarray],
    labels: np.ndarray,
    methods: Sequence[str],
    *,
    subset_ids: np.ndarray | None = None,
    shifts: Sequence[int] | np.ndarray | None = None,
    where: str = "the score matrix",
) -> Certified:
    """Certify every test image with every method; the result does not depend on how the rows are cut into
    blocks.

    blocks: scores [rows, k, classes], in order of the test images, together n rows; labels [n]; subset_ids
    [k] of the columns, in order where they are not given; shifts [d] of Finite Aggregation's subsets, None or [0]
    where subsets are disjoint. Beside the block itself, memory of about its size is used. `where` names the file
    in messages. Raises InputError for what check_scores refuses, for methods that do not suit the shifts
    (methods.check_method), for blocks of differing shapes, and where blocks and labels differ in length.
    """
    for method in methods:
        check_method(method, shifts, where)
    tables: dict[str, list[pd.DataFrame]] = {method: [] for method in methods}
    hits = np.zeros(0, np.int64)
    shape: tuple[int, ...] | None = None
    start = 0
    for block in blocks:
        if shape is None:
            shape = block.shape[1:]
            hits = np.zeros(shape[:1], np.int64)
        if block.shape[1:] != shape:
            raise InputError(
                f"{where} has {shape} classifiers and classes, but {block.shape[1:]} at test image {start}: "
                "score every test image with the same family."
            )
        if not len(block):
            continue
        ids = np.arange(len(hits)) if subset_ids is None else subset_ids
        own = labels[start : start + len(block)]
        order = check_scores(block, own, ids, start_index=start, where=where)
        if not np.array_equal(order, np.arange(len(order))):
            block = block[:, order]  # shifts count in subset numbers
        chosen = votes(block)
        counts = count_votes(chosen, block.shape[2])
        hits += (chosen == own[:, None]).sum(0)
        for method, parts in tables.items():
            parts.append(example_rows(block, own, method, start, counts, shifts))
        start += len(block)
    if start == 0:
        raise InputError(f"{where} holds no test images: give a data set with a test set.")
    if start != len(labels):
        raise InputError(
            f"{where} scores {start} test images, but there are {len(labels)} labels: "
            "score the same test set again, labels and images from one data file."
        )
    rows = pd.concat([table for parts in tables.values() for table in parts], ignore_index=True)
    return Certified(rows, hits / start)
