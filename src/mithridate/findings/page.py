"""docs/results/README.md, every published number beside what comes nearest to it, and a page for every recorded run."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from mithridate.findings.measured import records
from mithridate.findings.parts import TABLES, TITLES, command
from mithridate.findings.published import NUMBER, OF, SETTING, published

HEAD = """# Results

Written by `snakemake --cores 2 record` (or `mithridate record FOLDER NAME`, where FOLDER holds results computed
elsewhere) from the recorded tables; `mithridate rerecord` makes it again, and so does a test. Each run has a page of
its own with its commands, all its numbers one by one, and pictures.

Verdicts mean what [verdicts.py](../../src/mithridate/findings/verdicts.py) says: **agrees**, **higher**, **lower** of a
number in the published setting, **not comparable** in another; **holds**, **does not hold**, **undecided** of a claim.
A published number stands beside ours in its own setting, or, where nobody ran that, in others. Brackets are 95 %
intervals over test images (in smoothing over seeds too), which do not cover another training; differences of shares are
in points. Precision (fp32, bf16), layout and tiles count as how a number is computed, not as another setting; each
run.json has them. Seconds are the sum of the wall times of the jobs that a table follows from, each as it last ran, one
thread each on a CPU. Success rates of attacks, falls of certified radii, repairs and robustness to adversarial data are
measured, not certified.
"""
COLUMNS = "| setting | quantity | published, or control | ours | difference | verdict | hardware | seconds | run |"
ALONE = """# {name}

A recorded run; [all results](../README.md) say what verdicts, brackets and seconds mean.
"""
MOST = 3  # differences that are named
OWN = ", where mine.yaml names these networks and files ([BadNet repair](../badnet.md))"
Records = Mapping[str, tuple[Sequence[Mapping[str, Any]], pd.DataFrame, Sequence[str]]]


def page(known: Records) -> str:
    """The page over all. known: by name the parts, findings and pictures of every recorded run."""
    found = [found.assign(run=name) for name, (_, found, _) in known.items()]
    frames = [frame.astype(object).fillna("") for frame in found]
    whole = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"part": []})
    lines = [HEAD]
    for part in TABLES:
        own = whole[whole["part"] == part]
        lines += [f"## {TITLES[part]}", ""]
        if own.empty:
            lines += ["Nothing recorded.", ""]
            continue
        lines += [COLUMNS, "|---" * COLUMNS.count(" | ") + "|---|"]
        for row in records(published()):
            if len(rows := own[own["id"] == row["id"]]):
                same = rows[rows["differs"].isin(["", row["unlike"]])]
                lines.append(_nearest(row, records(same if len(same) else rows)))
        lines.append("")
    return "\n".join([*lines, *_missing(known)]).rstrip("\n") + "\n"


def _nearest(asked: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """One line of all findings about one published number, of those that several runs made alike the first."""
    rows = list({(one["dataset"], one["setting"]): one for one in reversed(rows)}.values())[::-1]
    row, several = rows[0], len(rows) > 1
    here = f"{len(rows)} settings" if several else row["setting"] if row["differs"] else ""
    verdicts = Counter(one["verdict"] for one in rows)
    runs = dict.fromkeys(one["run"] for one in rows)
    seconds = {one["run"]: one["seconds"] for one in rows}
    values = sorted(rows, key=lambda one: float(one["ours"]))
    span = [number(one["ours"], row["unit"]) for one in (values[0], values[-1])]
    return _cells(
        "; here ".join(filter(None, [_setting(asked), here])),
        row["quantity"],
        f"{claimed(row)} ({row['source']})",
        " to ".join(dict.fromkeys(span)) if several else ours(row),
        "" if several else _difference(row),
        "; ".join(f"{verdict}: {count}" for verdict, count in verdicts.items()) if several else row["verdict"],
        "; ".join(dict.fromkeys(one["hardware"] for one in rows)),
        "; ".join(f"{value:.0f}" for value in seconds.values()),
        ", ".join(f"[{name}]({name}/README.md)" for name in runs),
    )


def alone(name: str, runs: Sequence[Mapping[str, Any]], found: pd.DataFrame, pictures: Sequence[str]) -> str:
    """The page of one recorded run."""
    lines = [line for run in runs for line in _part(run, found, pictures)]
    return "\n".join([ALONE.format(name=name), *lines]).rstrip("\n") + "\n"


def _part(run: Mapping[str, Any], found: pd.DataFrame, pictures: Sequence[str]) -> Iterator[str]:
    part = run["part"]
    commit = ", ".join(text[:12] + text[40:] for text in run["commit"]) or "not noted in its artefacts"
    yield f"## {TITLES[part]}"
    yield ""
    yield f"`{run['command']}`"
    yield ""
    made = f"{run['hardware']}; {run['seconds']:.0f} seconds in {run['jobs']} jobs"
    tables = ", ".join(f"[{table}.csv]({table}.csv)" for table in run["tables"])
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
            yield f"![{picture.removesuffix('.svg')}]({picture})"
            yield ""


def _line(row: Mapping[str, Any]) -> str:
    return _cells(
        row["setting"],
        row["quantity"],
        claimed(row),
        ours(row),
        _difference(row),
        row["verdict"],
        shortened(row["differs"]),
        row["source"],
    )


def _cells(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def ours(row: Mapping[str, Any]) -> str:
    """70.20 % [69.29 %, 71.10 %]."""
    value, low, high = (number(row[key], row["unit"]) for key in ("ours", "ci_low", "ci_high"))
    return value if low == high else f"{value} [{low}, {high}]"


def _difference(row: Mapping[str, Any]) -> str:
    return number(row["difference"], row["unit"], sign="+").removesuffix(" %")


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
        yield f"`{command(str(part), str(run))}`{OWN if 'mine.yaml' in str(run) else ''}"
        yield ""
        yield "| setting | quantity | published | source |"
        yield "|---|---|---|---|"
        for row in records(own):
            value = claimed({**row, "published": row["value"], "published_high": row["value_high"]})
            yield _cells(_setting(row), row["quantity"], value, f"{row['source']}, {row['place']}")
        yield ""


def _setting(row: Mapping[str, Any]) -> str:
    """Of a published number: mnist, dpa, k = 1200, d = 1."""
    numbers = [f"{name} = {row[name]}" for name in SETTING if row[name]]
    return ", ".join(filter(None, [row["dataset"], *(row[name] for name in OF), *numbers]))
