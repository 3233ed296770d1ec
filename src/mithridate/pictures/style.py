"""What all pictures share: names, colours, and how they are written."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pandas as pd

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from mithridate.artefacts import atomic, write_bytes

NAMES = {
    "single": "one undefended classifier",
    "dpa": "DPA",
    "runoff": "Run-off Election",
    "finite": "Finite Aggregation",
    "finite_runoff": "Finite Aggregation + Run-off Election",
    "collective": "collective certificate",
    "clopper-pearson": "Clopper–Pearson",
    "hoeffding": "Hoeffding",
}
COLOURS = {  # distinguishable without colour vision (Okabe & Ito)
    "single": "#555555",
    "dpa": "#0072B2",
    "runoff": "#D55E00",
    "finite": "#56B4E9",
    "finite_runoff": "#E69F00",
    "collective": "#009E73",
    "clopper-pearson": "#0072B2",
    "hoeffding": "#D55E00",
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

__all__ = ["COLOURS", "LINES", "NAMES", "Figure", "by_ensemble", "plt", "save"]


def by_ensemble(table: pd.DataFrame, method: str = "method") -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Name of the method (or defence), the whole ensemble in words, and its rows, in order of appearance."""
    for (group, k, d, seeds), rows in table.groupby([method, "k", "d", "seeds"], sort=False):
        one = str(group)
        more = (f", d = {d}" if d != 1 else "") + (f", {seeds} seeds" if seeds != 1 else "")
        yield one, NAMES[one] if one == "single" else f"{NAMES[one]}, k = {k}{more}", rows


def save(picture: tuple[Figure, str], path: str | Path, caption: str | Path) -> None:
    """Write the picture as SVG and its caption as text."""
    figure, text = picture
    with atomic(path) as part:
        figure.savefig(part, format="svg", metadata={"Date": None})
    plt.close(figure)
    write_bytes(caption, f"{text}\n".encode())
