"""The picture of what a run costs."""

import pandas as pd
from matplotlib.axes import Axes

from mithridate.pictures.style import COLOURS, Figure, plt

SHOWN = 25  # rules


def times(table: pd.DataFrame) -> tuple[Figure, str]:
    """Seconds and peak memory by rule, for the rules that take longest. table: see mithridate.report.times.by_rule."""
    measured = table[table["measured"] > 0]
    shown = measured.head(SHOWN)[::-1]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 1.2 + 0.27 * len(shown)), sharey=True)
    names = [f"{rule} ({jobs})" for rule, jobs in zip(shown["rule"], shown["jobs"], strict=True)]
    _bars(left, names, shown["seconds_total"], "seconds, all jobs together", "{:,.1f}", COLOURS["dpa"])
    left.plot(shown["seconds_longest"], names, "|", color="black", markersize=9, label="longest job")
    left.legend(loc="lower right")
    _bars(right, names, shown["peak_memory_mib"], "peak memory of a job [MiB]", "{:,.0f}", COLOURS["finite"])
    right.tick_params(labelleft=False)
    return figure, _caption(table, measured, len(shown))


def _bars(axes: Axes, names: list[str], values: pd.Series, label: str, form: str, colour: str) -> None:
    bars = axes.barh(names, values, color=colour)
    axes.bar_label(bars, [form.format(value) for value in values], padding=3, fontsize=9)
    axes.set(xlabel=label, xlim=(0, 1.18 * max(values.max(), 1e-3)))
    axes.grid(visible=False, axis="y")


def _caption(table: pd.DataFrame, measured: pd.DataFrame, shown: int) -> str:
    missing = int((table["jobs"] - table["measured"]).sum())
    silent = ", ".join(table.loc[table["measured"] < table["jobs"], "rule"])
    return " ".join(
        [
            f"The {shown} rules that take longest, of {len(measured)} that were measured; in brackets their jobs.",
            f"All jobs together took {measured['seconds_total'].sum():,.0f} seconds. These are the jobs behind this"
            " configuration's tables, whenever they ran, and each one's last run; jobs run side by side, so that a run"
            " takes less time on the clock.",
            "Memory is looked at once or twice a second at first; what a job shorter than that takes is not seen.",
            f"{missing} jobs have no measurement ({silent})." if missing else "Every job was measured.",
        ]
    )
