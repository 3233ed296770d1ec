"""The summary table as text for a terminal."""

import pandas as pd

NAMES = {"dpa": "Deep Partition Aggregation", "runoff": "Run-off Election"}


def text(summary: pd.DataFrame) -> str:
    """A few lines for every row of results/dpa_summary.csv."""
    return "\n".join(_lines(row) for row in summary.to_dict("records"))


def _lines(row: dict[str, object]) -> str:
    lines = [f"{row['dataset']}, k = {row['k']}, {NAMES[str(row['method'])]}"]

    def line(name: str, ours: str, published: str = "") -> None:
        lines.append(f"  {name:26s}{ours:26s}{'published ' + published if published else ''}".rstrip())

    interval = f"{row['clean_accuracy']:.2%} [{row['ci_low']:.2%}, {row['ci_high']:.2%}]"
    line("clean accuracy", interval, _percent(row["published_clean_accuracy"]))
    line("base accuracy", f"{row['base_accuracy']:.2%}", _percent(row["published_base_accuracy"]))
    published = "" if pd.isna(row["published_median"]) else f"{row['published_median']:.0f}"
    line("median, as papers print it", f"{row['median_printed']}", published)
    if not pd.isna(row["median_radius"]):
        units = f"{row['median_insertions_or_deletions']} insertions or deletions, {row['median_label_flips']} label flips,"
        lines.append(f"  half of the test images are certified against {units}")
        lines.append(f"  or {row['median_image_replacements']} image replacements in {row['n_test']} test images' worst case each")
    if "partition_min" in row:
        line("partitions", f"{row['partition_min']} to {row['partition_max']} samples")
    if row.get("flagged_members"):
        line("constant classifiers", f"{row['flagged_members']}, {row['empty_members']} of them for an empty partition")
    return "\n".join(lines)


def _percent(value: object) -> str:
    return "" if pd.isna(value) else f"{value:.2%}"
