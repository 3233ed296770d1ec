"""What all pictures share: names, colours, and how they are written."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from mithridate.atomic import atomic, write_bytes
from mithridate.options.certificates import CERTIFICATES

NAMES = {
    "single": "one undefended classifier",
    **{name: one.short for name, one in CERTIFICATES.items()},
    "collective": "collective certificate",
    "clopper-pearson": "Clopper–Pearson",
    "hoeffding": "Hoeffding",
    "gaussian": "Gaussian augmentation",
    "smoothadv": "SmoothAdv",
    "macer": "MACER",
    "clean": "clean",
    "poisoned": "poisoned",
    "random": "random ±ε",
    "own": "own poison",
    "none": "no defence",
    "prune": "pruning",
    "fine-tune": "fine-tuning",
    "fine-prune": "Fine-Pruning",
    "weight-range": "weight-range pruning",
    "STRIP": "STRIP",
    "combined": "combined",
}
COLOURS = {  # distinguishable without colour vision (Okabe & Ito)
    "single": "#555555",
    **{name: one.colour for name, one in CERTIFICATES.items()},
    "collective": "#009E73",
    "clopper-pearson": "#0072B2",
    "hoeffding": "#D55E00",
    "clean": "#0072B2",
    "poisoned": "#D55E00",
    "random": "#777777",
    "own": "#009E73",
    "none": "#555555",
    "prune": "#56B4E9",
    "fine-tune": "#E69F00",
    "fine-prune": "#0072B2",
    "weight-range": "#0072B2",
    "STRIP": "#CC79A7",
    "combined": "#009E73",
}
matplotlib.rcParams.update(
    {
        "svg.hashsalt": "mithridate",  # equal pictures, equal bytes
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "figure.constrained_layout.use": True,
        "legend.frameon": False,
    }
)

LINES = ["-", "--", ":", "-."]

__all__ = ["COLOURS", "LINES", "NAMES", "Figure", "by_ensemble", "image_pairs", "plt", "save"]


def by_ensemble(table: pd.DataFrame, method: str = "method") -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Name of the method (or defence), the whole ensemble in words, and its rows, in order of appearance."""
    for (group, k, d, seeds), rows in table.groupby([method, "k", "d", "seeds"], sort=False):
        one = str(group)
        more = (f", d = {d}" if d != 1 else "") + (f", {seeds} seeds" if seeds != 1 else "")
        yield one, NAMES[one] if one == "single" else f"{NAMES[one]}, k = {k}{more}", rows


def image_pairs(first: np.ndarray, second: np.ndarray, names: tuple[str, str], reach: float) -> Figure:
    """Images [n,C,H,W] in [0,1], below each its counterpart, and below that their difference from −reach to +reach, the
    mean over channels: axes [3, n] row by row."""
    count = len(first)
    figure, grid = plt.subplots(3, count, figsize=(1.25 * count + 0.8, 4.1), squeeze=False)
    for row, images in enumerate((first, second, second - first)):
        for axes, image in zip(grid[row], images.transpose(0, 2, 3, 1), strict=True):
            if row == 2:
                axes.imshow(image.mean(2), cmap="RdBu_r", vmin=-reach, vmax=reach)
            else:
                axes.imshow(image if image.shape[2] == 3 else image[:, :, 0], cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
        grid[row, 0].set_ylabel((*names, "difference")[row])
    return figure


def save(picture: tuple[Figure, str], path: str | Path, caption: str | Path) -> None:
    """Write the picture as SVG and its caption as text."""
    figure, text = picture
    with atomic(path) as part:
        figure.savefig(part, format="svg", metadata={"Date": None})
    plt.close(figure)
    write_bytes(caption, f"{text}\n".encode())
