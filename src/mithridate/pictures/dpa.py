"""The pictures of partition aggregation."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mithridate.certify.intervals import dkw_half_width
from mithridate.pictures.style import COLOURS, LINES, NAMES, Figure, by_ensemble, plt


def certified_accuracy(curve: pd.DataFrame, confidence: float) -> tuple[Figure, str]:
    """Certified accuracy against radius for every ensemble and method trained on the clean set and shown clean test
    images; each pointwise curve with its simultaneous band."""
    curve = curve[(curve["variant"] == "clean") & (curve["inputs"] == "clean")]
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    sentences = []
    ensembles = sorted(curve[["k", "d", "seeds"]].drop_duplicates().itertuples(index=False, name=None))
    for method, name, rows in by_ensemble(curve):
        number = ensembles.index(tuple(rows[["k", "d", "seeds"]].iloc[0]))
        colour, style = COLOURS[method], LINES[number % len(LINES)]
        accuracy, radius = rows["certified_accuracy"], rows["radius"]
        if method == "collective":
            axes.plot(radius, accuracy, "o:", color=colour, label=name, markersize=4)
            continue
        axes.step(radius, accuracy, style, where="post", color=colour, label=name)
        half = dkw_half_width(int(rows["n_test"].iloc[0]), confidence)
        low, high = (accuracy - half).clip(0), (accuracy + half).clip(upper=1)
        axes.fill_between(radius, low, high, step="post", color=colour, alpha=0.12, linewidth=0)
        sentences.append(_sentence(name, accuracy))
    axes.set(xlabel="radius: training samples inserted or deleted", ylabel="certified accuracy", ylim=(0, 1.01))
    axes.set_xlim(left=0)
    axes.legend(fontsize=9)
    n = int(curve["n_test"].iloc[0])
    band = f"Bands: {confidence:.0%} for each whole curve at once (Dvoretzky, Kiefer, Wolfowitz), from {n} test images."
    if (curve["method"] == "collective").any():
        band += " The collective certificate bounds how many of these test images one attack can change together."
    return figure, " ".join([*sentences, band])


def _sentence(name: str, accuracy: pd.Series) -> str:
    half_certified = int((accuracy >= 0.5).sum())
    if not half_certified:
        return f"{name}: clean accuracy {accuracy.iloc[0]:.1%}, below one half."
    return (
        f"{name}: clean accuracy {accuracy.iloc[0]:.1%};"
        f" at least half of the test images certified against {half_certified - 1} poisoned samples."
    )


def vote_margins(certificates: pd.DataFrame, voters: int) -> tuple[Figure, str]:
    """How far ahead the winning class is, for right and wrong predictions, by method."""
    methods = list(certificates["method"].unique())
    figure, grid = plt.subplots(1, len(methods), figsize=(4.2 * len(methods), 3.8), sharey=True, squeeze=False)
    sentences = []
    for axes, method in zip(grid[0], methods, strict=True):
        rows = certificates[certificates["method"] == method]
        margin = rows["votes"] - rows["runner_up"]
        bins = np.linspace(min(margin.min(), 0), voters, 26)
        right = rows["correct"].astype(bool)
        axes.hist(
            [margin[right], margin[~right]],
            bins,
            stacked=True,
            color=[COLOURS[method], "#999999"],
            label=["right", "wrong"],
        )
        axes.set(xlabel="votes ahead of the next class", title=NAMES[method])
        axes.legend(title="prediction")
        sentences.append(
            f"{NAMES[method]}: median margin {margin.median():.0f} of {voters} votes,"
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
    axes.legend()
