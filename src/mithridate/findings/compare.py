"""The findings: every published number or claim beside ours."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from mithridate.findings.measured import Config, Measured, Tables
from mithridate.findings.networks import adversarial, badnet, smoothing
from mithridate.findings.partitions import backdoors, partition_aggregation, rab
from mithridate.findings.published import NUMBER, OF, SETTING, published
from mithridate.findings.settings import Configs, differs
from mithridate.findings.verdicts import verdict

MEASURES: Mapping[str, Callable[[Tables, Config], Iterator[Measured]]] = {
    "dpa": partition_aggregation,
    "backdoor": backdoors,
    "rab": rab,
    "smoothing": smoothing,
    "badnet": badnet,
    "dgn": adversarial,
}
COLUMNS = [
    *("id", "part", "kind", "dataset", "setting", "quantity", "unit", "relation", "published", "published_high"),
    *("ours", "ci_low", "ci_high", "interval", "difference", "verdict", "differs", "source"),
    *("hardware", "seconds", "command"),
]


def findings(tables: Tables, runs: Sequence[Mapping[str, Any]], papers: Configs) -> pd.DataFrame:
    """One row for every published row that a run's tables answer, and for each of our settings that does.

    tables: final tables by name; runs: of each part what runs.describe says; papers: settings.papers. Columns: COLUMNS.
    difference is ours minus published. verdict: see verdicts; differs: what is not as published, empty where nothing
    is. Rows keep the order of runs and of our tables.
    """
    rows = [
        _row(run, found, row, papers)
        for run in runs
        for found in MEASURES[run["part"]](tables, run["configuration"])
        for row in _partners(run["part"], found)
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    order = {part: place for place, part in enumerate(MEASURES)}
    kinds = {"number": 0, "claim": 1}
    return table.sort_values(
        ["part", "kind"], key=lambda column: column.map(order | kinds), kind="stable", ignore_index=True
    )


def _partners(part: str, found: Measured) -> list[dict[str, str]]:
    """The published rows that are of the same thing: those of our setting, otherwise the one that comes nearest."""
    same = published().query("part == @part and quantity == @found.quantity")
    for name in OF:
        same = same[same[name].isin(["", found.of.get(name, "")])]
    own = same[same["dataset"] == found.dataset]
    rows = (own if len(own) else same[same["dataset"] == ""]).to_dict("records")
    candidates = [{str(key): str(value) for key, value in row.items()} for row in rows]
    exact = [row for row in candidates if not _away(row, found)]
    return exact or sorted(candidates, key=lambda row: _away(row, found))[:1]


def _away(row: Mapping[str, str], found: Measured) -> float:
    """How far the numbers of two settings are from each other, as ratios: 0 where they agree."""
    ours, theirs = ([float(at[name]) for name in _named(row, found)] for at in (found.at, row))
    return sum(abs(math.log(a / b)) for a, b in zip(ours, theirs, strict=True) if not math.isclose(a, b))


def _named(row: Mapping[str, str], found: Measured) -> list[str]:
    return [name for name in SETTING if row[name] and name in found.at]


def _row(run: Mapping[str, Any], found: Measured, row: Mapping[str, str], papers: Configs) -> dict[str, Any]:
    other = [
        f"{name} is {found.at[name]:g} instead of {row[name]}"
        for name in _named(row, found)
        if not math.isclose(found.at[name], float(row[name]))
    ]
    other += differs(run["configuration"], papers, row["needs"]) + [text for text in [row["unlike"]] if text]
    return {
        **{name: row[name] for name in ("id", "quantity", "unit", "relation")},
        **{name: run[name] for name in ("part", "hardware", "seconds", "command")},
        "kind": "number" if row["relation"] == NUMBER else "claim",
        "dataset": found.dataset,
        "setting": found.setting,
        "published": row["value"],
        "published_high": row["value_high"],
        "ours": found.ours,
        "ci_low": found.low,
        "ci_high": found.high,
        "interval": found.interval,
        "difference": found.ours - float(row["value"]),
        "verdict": verdict(
            row["relation"],
            row["value"],
            *(found.ours, found.low, found.high),
            published_high=row["value_high"],
            same=not other,
            decidable=found.decidable,
        ),
        "differs": "; ".join(other),
        "source": f"{row['source']}, {row['place']}",
    }
