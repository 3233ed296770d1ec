"""docs/results/README.md: every published number beside ours, and those that nobody ran."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from mithridate.findings.measured import records
from mithridate.findings.parts import TABLES, TITLES, command
from mithridate.findings.published import NUMBER, OF, SETTING, published

HEAD = """# Results

Written by `snakemake --cores 2 record` (or `mithridate record FOLDER NAME`, where FOLDER holds results computed
elsewhere) from the recorded tables; a test makes it again. Verdicts mean what
[verdicts.py](../../src/mithridate/findings/verdicts.py) says: **agrees**, **higher**, **lower** of a number in the
published setting, **not comparable** in another; **holds**, **does not hold**, **undecided** of a claim. Brackets are
95 % intervals over test images (in smoothing over seeds too), which do not cover another training; differences of
shares are in points. Precision (fp32, bf16), layout and tiles count as how a number is computed, not as another
setting; each run.json has them. Seconds are the sum of the wall times of the jobs that a table follows from, one thread
each on a CPU. Robustness of repaired networks and to adversarial data is measured, not certified.
"""
MOST = 3  # differences that are named
Records = Mapping[str, tuple[Sequence[Mapping[str, Any]], pd.DataFrame, Sequence[str]]]


def page(known: Records) -> str:
    """The whole page. known: by name the parts, findings and pictures of every recorded run."""
    lines = [HEAD]
    for part in TABLES:
        own = [line for name, record in known.items() for line in _run(name, part, *record)]
        lines += [f"## {TITLES[part]}", "", *(own or ["Nothing recorded.", ""])]
    return "\n".join([*lines, *_missing(known)]).rstrip("\n") + "\n"


def _run(
    name: str, part: str, runs: Sequence[Mapping[str, Any]], found: pd.DataFrame, pictures: Sequence[str]
) -> Iterator[str]:
    run = next((run for run in runs if run["part"] == part), None)
    if run is None:
        return
    commit = ", ".join(text[:12] + text[40:] for text in run["commit"]) or "not noted in its artefacts"
    tables = ", ".join(f"[{table}.csv]({name}/{table}.csv)" for table in run["tables"])
    yield f"### {name}: {TITLES[part]}"
    yield ""
    yield f"`{run['command']}`"
    yield ""
    made = f"{run['hardware']}; {run['seconds']:.0f} seconds in {run['jobs']} jobs"
    yield f"{made}; PyTorch {run['versions']['torch']}; commit {commit}. {tables}"
    yield ""
    own = found[found["part"] == part].astype(object).fillna("")
    if len(own):
        yield "| setting | quantity | published | ours | difference | verdict | what differs | source |"
        yield "|---|---|---|---|---|---|---|---|"
        yield from map(_line, records(own))
        yield ""
    for picture in pictures:
        if picture.startswith(f"{part}_"):
            yield f"![{picture.removesuffix('.svg')}]({name}/{picture})"
            yield ""


def _line(row: Mapping[str, Any]) -> str:
    value, low, high = (number(row[key], row["unit"]) for key in ("ours", "ci_low", "ci_high"))
    interval = "" if low == high else f" [{low}, {high}]"
    cells = [
        row["setting"],
        row["quantity"],
        claimed(row),
        f"{value}{interval}",
        number(row["difference"], row["unit"], sign="+").removesuffix(" %"),
        row["verdict"],
        shortened(row["differs"]),
        row["source"],
    ]
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def shortened(text: str) -> str:
    """The first differences; findings.csv has all."""
    parts = text.split("; ")
    return text if len(parts) <= MOST else f"{'; '.join(parts[:MOST])}; and {len(parts) - MOST} more options"


def claimed(row: Mapping[str, Any]) -> str:
    """= 95.81 %, > 30 %, 3 to 4 %."""
    text = number(float(row["published"]), row["unit"])
    if row["published_high"]:
        return f"{text} to {number(float(row['published_high']), row['unit'])}"
    return text if row["relation"] == NUMBER else f"{row['relation']} {text}"


def number(value: float, unit: str, sign: str = "") -> str:
    if unit.startswith("share"):
        return f"{100 * value:{sign}.2f} %"
    return f"{value:{sign}.0f}" if unit == "radii" else f"{value:{sign}.4f} {unit}"


def _missing(known: Records) -> Iterator[str]:
    """Published numbers of which no recorded run has the setting."""
    done = {row for _, found, _ in known.values() for row in found.loc[found["differs"].isna(), "id"]}
    shown = {row for _, found, _ in known.values() for row in found["id"]}
    rows = published()
    never_alike = rows["id"].isin(shown) & (rows["unlike"] != "")  # as near as can be
    rows = rows[~rows["id"].isin(done) & ~never_alike & (rows["run"] != "")]
    yield "## Not run in the published setting"
    yield ""
    yield "No recorded run has these settings. What would make each:"
    yield ""
    for (part, run), own in rows.groupby(["part", "run"], sort=False):
        yield f"`{command(str(part), str(run))}`"
        yield ""
        yield "| setting | quantity | published | source |"
        yield "|---|---|---|---|"
        for row in records(own):
            setting = [f"{name} = {row[name]}" for name in SETTING if row[name]]
            words = filter(None, [row["dataset"], *(row[name] for name in OF), *setting])
            value = claimed({**row, "published": row["value"], "published_high": row["value_high"]})
            yield f"| {', '.join(words)} | {row['quantity']} | {value} | {row['source']}, {row['place']} |"
        yield ""
