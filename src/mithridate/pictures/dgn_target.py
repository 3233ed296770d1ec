"""The pictures of what generators aim at: relevant pixels of each class, suspicious units of each layer."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle

from mithridate.adversarial.suspicious import NO_FAILURES, NO_SUCCESSES, TIE, suspicious_masks
from mithridate.adversarial.target import CONV
from mithridate.pictures.style import Figure, plt

SHOWN = 20  # classes whose relevance is shown
ACROSS = 5  # of them in a row
SIDE = 1.9  # inches of one
MARK = "#D55E00"


def relevance_maps(
    relevance: np.ndarray, relevant: np.ndarray, counts: np.ndarray, names: Sequence[str]
) -> tuple[Figure, str]:
    """Relevance of pixels for each class, with those that the loss takes outlined. relevance: float64 [classes,C,H,W];
    relevant: bool of the same shape; counts: images it is the mean of, int64 [classes]; names: of the classes."""
    classes, channels = relevance.shape[:2]
    shown = min(classes, SHOWN)
    across, down = min(ACROSS, shown), -(-shown // ACROSS)
    figure, grid = plt.subplots(down, across, figsize=(SIDE * across + 0.9, (SIDE + 0.3) * down + 0.3), squeeze=False)
    for axes, own, chosen, name in zip(grid.flat, relevance, relevant, names, strict=False):
        total = own.sum(0)
        reach = np.abs(total).max() or 1.0
        image = axes.imshow(total / reach, cmap="RdBu_r", vmin=-1, vmax=1)
        marks = [Rectangle((column - 0.5, row - 0.5), 1, 1) for row, column in np.argwhere(chosen.any(0))]
        axes.add_collection(PatchCollection(marks, facecolor="none", edgecolor="black", linewidth=0.9))
        axes.set_title(name, fontsize=10)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=grid, label="relevance / largest of the class", shrink=min(1, 1.4 / down), aspect=25)
    k = int(relevant[0].sum())
    positive = relevance.clip(0)
    part = (positive * relevant).sum((1, 2, 3)) / np.maximum(positive.sum((1, 2, 3)), np.finfo(float).tiny)
    sentences = [
        "Relevance of pixels (LRP) for the logit of the true class, mean over correctly classified training images"
        f" ({_range(counts)} per class): red speaks for the class, blue against it.",
        f"Outlined: the {k} most relevant of {relevance[0].size} values"
        + (f" (sums over {channels} channels are shown; a pixel is outlined for any of them)" if channels > 1 else "")
        + f", which carry {_range(100 * part, '.0f')} % of what speaks for a class.",
    ]
    return figure, " ".join(
        [*sentences, *[f"Only the first {shown} of {classes} classes are shown."] * (shown < classes)]
    )


def suspicious_maps(table: pd.DataFrame, names: Sequence[str]) -> tuple[Figure, str]:
    """Scores of the hidden units for each class, layer by layer, with the suspicious ones marked. table: see
    suspicious.tabulate; names: of the classes."""
    masks, classes = suspicious_masks(table), table["class"].nunique()
    height = min(0.19 * classes, 4) + 0.65
    figure, grid = plt.subplots(len(masks), figsize=(9, height * len(masks) + 0.5), squeeze=False)
    for axes, (layer, mask) in zip(grid[:, 0], masks.items(), strict=True):
        own = table[table["layer"] == layer].pivot(index="class", columns="unit", values="score").to_numpy()
        image = axes.imshow(own, cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        rows, columns = np.nonzero(mask)
        axes.plot(columns, rows, "o", color=MARK, markersize=4.5, markeredgecolor="white", markeredgewidth=0.7)
        axes.set_title(f"{layer} ({'feature maps' if layer.startswith(CONV) else 'neurons'})", fontsize=10, loc="left")
        axes.set_ylabel("class")
        axes.grid(False)
        step = -(-classes // 12)
        axes.set_yticks(range(0, classes, step), [str(names[c]) for c in range(0, classes, step)], fontsize=8)
    grid[-1, 0].set_xlabel("unit")
    figure.colorbar(image, ax=grid, label="Tarantula score", aspect=30)
    firsts = table.drop_duplicates("class").set_index("class")
    failed = (firsts["af"] + firsts["nf"]) // firsts["neurons"]
    seen = failed + (firsts["as"] + firsts["ns"]) // firsts["neurons"]
    chosen = table[table["suspicious"]]
    missing = [f"{names[c]}: {note}" for c, note in enumerate(firsts["note"]) if note in (NO_FAILURES, NO_SUCCESSES)]
    ties = int((chosen["note"] == TIE).sum())
    sentences = [
        "Tarantula score of hidden units on training images: 0.5 where a unit is as often active on images that the"
        " target gets wrong as on others, 1 where only on those.",
        f"Marked: the {_range(chosen.groupby('class').size().to_numpy())} suspicious units of each class, with scores"
        f" from {chosen['score'].min():.2f} to {chosen['score'].max():.2f}.",
        f"Wrong: {', '.join(f'{names[c]} {failed[c]} of {seen[c]}' for c in firsts.index)}.",
        *[f"{', '.join(missing)}: all scores are 0, and the first units were taken."] * bool(missing),
        *[f"{ties} marked units equal one that was left out."] * bool(ties),
    ]
    return figure, " ".join(sentences)


def _range(values: np.ndarray, form: str = "d") -> str:
    low, high = f"{values.min():{form}}", f"{values.max():{form}}"
    return low if low == high else f"{low} to {high}"
