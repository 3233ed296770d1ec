"""The summary table as text for a terminal."""

from typing import Any

import pandas as pd

from mithridate.options.certificates import CERTIFICATES


def text(summary: pd.DataFrame) -> str:
    """A few lines for every row of results/dpa_summary.csv."""
    return "\n".join(line for row in summary.to_dict("records") for line in _lines({str(k): v for k, v in row.items()}))


def _lines(row: dict[str, Any]) -> list[str]:
    interval = f"{_percent(row['clean_accuracy'])}  [{_percent(row['ci_low'])}, {_percent(row['ci_high'])}]"
    method = CERTIFICATES[str(row["method"])].title
    lines = [
        f"{row['dataset']}, k = {row['k']}{_more(row)}: {method}, {row['n_test']} test images",
        _line("clean accuracy", interval),
        _line("base accuracy", _percent(row["base_accuracy"])),
    ]
    if not pd.isna(row["median_radius"]):
        units = (
            f"{row['median_insertions_or_deletions']} insertions or deletions,"
            f" or {row['median_label_flips']} label flips, or {row['median_image_replacements']} image replacements"
        )
        lines.append(_line("half certified against", units))
    lines.append(_line("median as papers print it", str(row["median_printed"])))
    if "partition_min" in row:
        lines.append(_line("partitions", f"{row['partition_min']} to {row['partition_max']} samples"))
    if row.get("flagged_members"):
        flagged = f"{row['flagged_members']}, of which {row['empty_members']} for an empty partition"
        lines.append(_line("constant classifiers", flagged))
    return lines


def _more(row: dict[str, Any]) -> str:
    """What is said only where it is not 1: overlap and boosting."""
    return "".join(f", {text} {row[key]}" for key, text in (("d", "d ="), ("seeds", "seeds")) if row.get(key, 1) != 1)


def _line(name: str, value: str) -> str:
    return f"  {name:27s}{value}"


def _percent(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.2%}"
