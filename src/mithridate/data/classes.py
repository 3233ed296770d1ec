"""A data set restricted to some of its classes, such as the pairs on which RAB was published (Weber et al.,
IEEE S&P 2023: MNIST 1 and 0, CIFAR-10 airplane and bird)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mithridate.data.dataset import Dataset
from mithridate.errors import InputError

SPLITS = {"train": "training", "test": "test"}


def select_classes(dataset: Dataset, classes: Sequence[int]) -> Dataset:
    """The samples of `classes` in their stored order; a label becomes its position in `classes`: with [1, 0], images
    of class 1 get label 0.

    Raises InputError for fewer than two classes, one that stands twice, one that does not exist, and one
    without training or test images.
    """
    given = f"rab.classes {list(classes)} of {dataset.name}"
    if len(classes) < 2:
        raise InputError(f"{given} are fewer than two: give at least two.")
    if len(set(classes)) < len(classes):
        raise InputError(f"{given}: the same class stands twice, give each once.")
    missing = [number for number in classes if not 0 <= number < dataset.num_classes]
    if missing:
        raise InputError(f"{given}: there is no class {missing[0]}, give numbers from 0 to {dataset.num_classes - 1}.")
    new = np.full(dataset.num_classes, -1, np.int64)
    new[list(classes)] = np.arange(len(classes))
    rows = {}
    for split, word in SPLITS.items():
        labels = getattr(dataset, f"y_{split}")
        rows[split] = np.flatnonzero(new[labels] >= 0)
        empty = set(classes) - set(labels[rows[split]].tolist())
        if empty:
            raise InputError(f"{given}: class {min(empty)} has no {word} images, choose another.")
    names = [dataset.class_names[number] for number in classes]
    return replace(
        dataset,
        x_train=dataset.x_train[rows["train"]],
        y_train=new[dataset.y_train[rows["train"]]],
        x_test=dataset.x_test[rows["test"]],
        y_test=new[dataset.y_test[rows["test"]]],
        pixel_sum=None if dataset.pixel_sum is None else dataset.pixel_sum[rows["train"]],
        val_index=None,  # drawn anew
        source=f"{dataset.source}; classes {', '.join(names)} only",
        class_names=names,
    )
