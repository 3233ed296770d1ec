"""Findings for the report: what each part found, how it stands beside the papers, as text and as a table to sort."""

import html
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from mithridate.findings.measured import records
from mithridate.findings.page import claimed, ours, shortened
from mithridate.findings.parts import TITLES
from mithridate.findings.published import NUMBER
from mithridate.findings.verdicts import AGREES, FAILS, HIGHER, HOLDS, LOWER, OTHER, UNDECIDED
from mithridate.report.headlines import HEADLINES, Tables

COLUMNS = {"agrees, or holds": (AGREES, HOLDS), "undecided": (UNDECIDED,), "not comparable": (OTHER,)}
COLUMNS |= {"differs, or does not hold": (HIGHER, LOWER, FAILS)}
COLOURS = {"agrees, or holds": "good", "differs, or does not hold": "bad"}
SHARE = "share"  # the unit that is shown in per cent
MOST = 12  # findings against a paper that are named on the first page


def first_page(findings: pd.DataFrame, tables: Tables, parts: list[str]) -> str:
    """What was found, as reStructuredText: a sentence or two for each part, the verdicts counted, and what does not
    agree with a paper. findings: see mithridate.findings.compare; tables: final tables by name."""
    said = [f"* **{TITLES[part]}.** {HEADLINES[part](tables)}" for part in parts]
    against = findings[findings["verdict"].isin(COLUMNS["differs, or does not hold"])].astype(object).fillna("")
    return "\n".join([*said, "", ".. raw:: html", "", f"   {_counts(findings, parts)}", "", *_against(against)]) + "\n"


def sortable(findings: pd.DataFrame) -> pd.DataFrame:
    """The columns that a reader wants, shares in per cent."""
    words = ["published_high", "differs"]
    rows = findings.assign(**{name: findings[name].astype(object).fillna("") for name in words})
    share = rows["unit"].str.startswith(SHARE)
    ours = {
        name: (100 * rows[name]).round(2).where(share, rows[name].round(4)) for name in ("ours", "ci_low", "ci_high")
    }
    return pd.DataFrame(
        {
            "part": rows["part"].map(TITLES),
            "verdict": rows["verdict"],
            "setting": rows["setting"],
            "quantity": rows["quantity"],
            "published": [_published(row) for row in records(rows)],
            "ours": ours["ours"],
            "from": ours["ci_low"],
            "to": ours["ci_high"],
            "unit": rows["unit"].str.replace(SHARE, "%"),
            "what differs": rows["differs"].map(shortened),
            "source": rows["source"],
        }
    )


def _published(row: Mapping[str, Any]) -> str:
    return claimed(row).replace(">=", "≥").replace("<=", "≤")


def _counts(findings: pd.DataFrame, parts: list[str]) -> str:
    """One line of HTML: a row for each part, in which verdicts are counted."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ["beside the papers", *COLUMNS])
    body = "".join(f"<tr><td>{html.escape(TITLES[part])}</td>{_cells(findings, part)}</tr>" for part in parts)
    return f'<table class="findings"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _cells(findings: pd.DataFrame, part: str) -> str:
    own = findings.loc[findings["part"] == part, "verdict"]
    counts = {name: int(own.isin(verdicts).sum()) for name, verdicts in COLUMNS.items()}
    return "".join(f'<td class="{COLOURS.get(name, "open") if n else ""}">{n or ""}</td>' for name, n in counts.items())


def _against(rows: pd.DataFrame) -> Iterator[str]:
    if rows.empty:
        yield "Nothing found here contradicts a published number or claim."
        return
    more = f"; the first {MOST} of them" if len(rows) > MOST else ""
    yield f"{len(rows)} findings differ from a published number, or do not bear out a claim{more}:"
    yield ""
    for row in records(rows.head(MOST)):
        said = "published" if row["relation"] == NUMBER else "claimed"
        yield (
            f"* {TITLES[row['part']]}, {row['setting']}: {row['quantity']} is {ours(row)}, {said}"
            f" {_published(row)} ({row['source']})."
        )
