"""A table as one HTML page that sorts by the column that is clicked; it needs nothing from outside."""

import html
from collections.abc import Mapping

import pandas as pd

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 13px/1.35 system-ui, sans-serif; margin: 1.5em; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .25em .7em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }}
th button {{ font: inherit; font-weight: 600; border: 0; background: none; cursor: pointer; padding: 0; }}
th[aria-sort=ascending] button::after {{ content: " \\2191"; }}
th[aria-sort=descending] button::after {{ content: " \\2193"; }}
td.text, th.text {{ text-align: left; }}
td.long {{ white-space: normal; min-width: 11em; overflow-wrap: anywhere; }}
td.good {{ background: #d7f0e4; }}
td.bad {{ background: #fbdcc9; }}
td.open {{ background: #eeeeee; }}
thead th {{ position: sticky; top: 0; background: white; }}
</style></head><body>
<h1>{title}</h1>
<p>{same}</p>
<table><thead><tr>{head}</tr></thead><tbody>
{body}
</tbody></table>
<script>
document.querySelectorAll("th").forEach((th, column) => th.querySelector("button").addEventListener("click", () => {{
  const up = th.getAttribute("aria-sort") !== "ascending";
  document.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  th.setAttribute("aria-sort", up ? "ascending" : "descending");
  const text = th.classList.contains("text"), key = row => row.cells[column].dataset.value;
  const compare = (a, b) => {{
    const x = key(a), y = key(b);
    if (x === "" || y === "") return (x === "") - (y === "");  // nothing is known: at the end, either way
    return (up ? 1 : -1) * (text ? x.localeCompare(y) : parseFloat(x) - parseFloat(y));
  }};
  const rows = [...document.querySelectorAll("tbody tr")].sort(compare);
  document.querySelector("tbody").append(...rows);
}}));
</script></body></html>
"""


LONG = 12  # rows
SENTENCE = 30  # letters beyond which a text is wrapped
MARKS = {  # columns whose words are seen from afar: green, orange or grey
    "state": {"changed": "bad"},
    "verdict": {
        **dict.fromkeys(["agrees", "holds"], "good"),
        **dict.fromkeys(["higher", "lower", "does not hold"], "bad"),
        **dict.fromkeys(["undecided", "not comparable"], "open"),
    },
}


def page(table: pd.DataFrame, title: str) -> str:
    """The page; fractions are shown with four decimals and sorted by their full value.

    In long tables, columns with the same value in all rows stand in a sentence above.
    """
    same = [name for name in table if len(table) > LONG and table[name].nunique(dropna=False) == 1]
    sentence = ", ".join(f"{name}: {_shown(table[name].iloc[0]) or 'none'}" for name in same)
    table = table.drop(columns=same)
    text = {name for name in table if not pd.api.types.is_numeric_dtype(table[name])}
    head = "".join(
        f'<th{_class(name in text)}><button type="button">{html.escape(str(name))}</button></th>' for name in table
    )
    body = "\n".join(
        "<tr>" + "".join(_cell(v, n in text, MARKS.get(str(n), {})) for n, v in zip(table, row, strict=True)) + "</tr>"
        for row in table.itertuples(index=False)
    )
    return PAGE.format(title=html.escape(title), same=html.escape(sentence), head=head, body=body)


def _cell(value: object, is_text: bool, marks: Mapping[str, str]) -> str:
    shown = _shown(value)
    exact = html.escape(str(value)) if shown else ""
    more = [marks.get(shown, ""), "long" if len(shown) > SENTENCE else ""]
    return f'<td{_class(is_text, *more)} data-value="{exact}">{html.escape(shown)}</td>'


def _shown(value: object) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _class(is_text: bool, *more: str) -> str:
    names = " ".join(filter(None, ["text" if is_text else "", *more]))
    return f' class="{names}"' if names else ""
