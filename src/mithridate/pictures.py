"""The pictures of partition aggregation, and a caption for each with the run's own numbers."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from mithridate.artefacts import atomic, write_bytes
from mithridate.certify.intervals import dkw_half_width

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

NAMES = {"dpa": "DPA", "runoff": "Run-off Election"}
COLOURS = {"dpa": "#0072B2", "runoff": "#D55E00"}  # distinguishable without colour vision
matplotlib.rcParams.update(
    {
        "svg.hashsalt": "mithridate",  # equal pictures, equal bytes
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "figure.constrained_layout.use": True,
    }
)


def certified_accuracy(curve: pd.DataFrame, confidence: float) -> tuple[Figure, str]:
    """Certified accuracy against radius for every k and method, with the simultaneous band of each curve."""
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    sentences = []
    ks = sorted(curve["k"].unique())
    runs = curve[["k", "method"]].drop_duplicates().itertuples(index=False, name=None)
    for k, method in sorted(runs):
        rows = curve[(curve["k"] == k) & (curve["method"] == method)]
        half = dkw_half_width(int(rows["n_test"].iloc[0]), confidence)
        accuracy, radius = rows["certified_accuracy"], rows["radius"]
        label = NAMES[method] if len(ks) == 1 else f"{NAMES[method]}, k = {k}"
        style = ["-", "--", ":", "-."][ks.index(k) % 4]
        axes.step(radius, accuracy, style, where="post", color=COLOURS[method], label=label)
        low, high = (accuracy - half).clip(0), (accuracy + half).clip(upper=1)
        axes.fill_between(radius, low, high, step="post", color=COLOURS[method], alpha=0.15, linewidth=0)
        half_certified = int((accuracy >= 0.5).sum())
        sentences.append(
            f"{NAMES[method]} with {k} partitions: clean accuracy {accuracy.iloc[0]:.1%};"
            f" at least half of the test images certified against {half_certified - 1} poisoned samples."
            if half_certified
            else f"{NAMES[method]} with {k} partitions: clean accuracy {accuracy.iloc[0]:.1%}, below one half."
        )
    axes.set(xlabel="radius: training samples inserted or deleted", ylabel="certified accuracy", ylim=(0, 1.01))
    axes.set_xlim(left=0)
    axes.legend(frameon=False)
    n = int(curve["n_test"].iloc[0])
    band = f"Bands: {confidence:.0%} for each whole curve at once (Dvoretzky, Kiefer, Wolfowitz), from {n} test images."
    return figure, " ".join([*sentences, band])


def vote_margins(certificates: pd.DataFrame, k: int) -> tuple[Figure, str]:
    """How far ahead the winning class is, for right and wrong predictions, by method."""
    methods = list(certificates["method"].unique())
    figure, grid = plt.subplots(1, len(methods), figsize=(4.2 * len(methods), 3.8), sharey=True, squeeze=False)
    sentences = []
    for axes, method in zip(grid[0], methods, strict=True):
        rows = certificates[certificates["method"] == method]
        margin = rows["votes"] - rows["runner_up"]
        bins = np.linspace(min(margin.min(), 0), k, 26)
        right = rows["correct"].astype(bool)
        axes.hist(
            [margin[right], margin[~right]],
            bins,
            stacked=True,
            color=[COLOURS[method], "#999999"],
            label=["right", "wrong"],
        )
        axes.set(xlabel="votes ahead of the next class", title=NAMES[method])
        axes.legend(frameon=False, title="prediction")
        sentences.append(
            f"{NAMES[method]}: median margin {margin.median():.0f} of {k} votes,"
            f" {int((~right).sum())} of {len(rows)} predictions wrong."
        )
    grid[0, 0].set_ylabel("test images")
    return figure, " ".join(sentences)


def partition_sizes(members: pd.DataFrame) -> tuple[Figure, str]:
    """How many training samples each partition holds."""
    size = members["size"]
    figure, axes = plt.subplots(figsize=(6, 3.6))
    _histogram(axes, size, "training samples in the partition")
    flagged = int((members["flag"] != "fitted").sum())
    return figure, (
        f"{len(size)} partitions of {size.min()} to {size.max()} samples, {size.mean():.1f} on average;"
        f" {int((size == 0).sum())} empty."
        f" {flagged} base classifiers are constant because their partition was empty or could not be fitted."
    )


def base_accuracies(members: pd.DataFrame) -> tuple[Figure, str]:
    """The test accuracy of each base classifier alone."""
    accuracy = members["base_accuracy"]
    figure, axes = plt.subplots(figsize=(6, 3.6))
    _histogram(axes, accuracy, "test accuracy of a base classifier")
    return (
        figure,
        f"{len(accuracy)} base classifiers: {accuracy.mean():.1%} right on average,"
        f" from {accuracy.min():.1%} to {accuracy.max():.1%}.",
    )


def _histogram(axes: Axes, values: pd.Series, label: str) -> None:
    axes.hist(values, bins=min(30, max(5, len(values) // 4)), color=COLOURS["dpa"])
    axes.axvline(values.mean(), color="black", linewidth=1, label="mean")
    axes.set(xlabel=label, ylabel="partitions")
    axes.legend(frameon=False)


def save(picture: tuple[Figure, str], path: str | Path, caption: str | Path) -> None:
    """Write the picture as SVG and its caption as text."""
    figure, text = picture
    with atomic(path) as part:
        figure.savefig(part, format="svg", metadata={"Date": None})
    plt.close(figure)
    write_bytes(caption, f"{text}\n".encode())
