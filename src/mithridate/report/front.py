"""The report's first page: what was run, on what, as reStructuredText."""

from collections.abc import Sequence

import pandas as pd

from mithridate.data.dataset import Header

MANY = 8  # changed keys that are named on the first page


def run_text(
    headers: Sequence[Header], configuration: pd.DataFrame, origins: pd.DataFrame, times: pd.DataFrame, reported: str
) -> str:
    """A list of what was run: data sets, changed keys, code and machine, cost. configuration, origins, times: see
    the modules of these names. reported: category of the report that holds them."""
    items = [*map(_data, headers), _changes(configuration), _code(origins), _cost(times)]
    return "\n".join(f"* {item}" for item in items) + f"\n\nAll of this in full: `{reported}`_.\n"


def _data(header: Header) -> str:
    channels, height, width = header.shape
    colour = ", in colour" if channels == 3 else ""
    return (
        f"Data set **{header.name}** ({header.source}): {header.n_train:,} training and {header.n_test:,} test images"
        f" of {height} × {width} pixels{colour}, {header.num_classes} classes."
    )


def _changes(configuration: pd.DataFrame) -> str:
    changed = configuration[configuration["state"] == "changed"]
    if changed.empty:
        return "Configuration: every key has its default."
    first = changed.head(MANY)
    named = "; ".join(f"``{key}``: {_literal(value)}" for key, value in zip(first["key"], first["value"], strict=True))
    more = f"; and {len(changed) - MANY} more" if len(changed) > MANY else ""
    return f"Configuration: {len(changed)} of {len(configuration)} keys differ from the defaults: {named}{more}."


def _literal(value: str) -> str:
    return f"``{' '.join(value.split())}``" if value.strip() else "empty"


def _code(origins: pd.DataFrame) -> str:
    def values(item: str) -> str:
        return ", ".join(_commit(value) if item == "commit" else value for value in found.get(item, ["not recorded"]))

    found = {str(item): list(rows["value"]) for item, rows in origins.groupby("item")}
    return (
        f"mithridate {values('mithridate')} at commit {values('commit')}, on {values('device')}, with PyTorch"
        f" {values('torch')} and Python {values('python')}."
    )


def _commit(value: str) -> str:
    commit, dirty, _ = value.partition("-dirty")
    return commit[:12] + (" with uncommitted changes" if dirty else "")


def _cost(times: pd.DataFrame) -> str:
    jobs, measured, minutes = times["jobs"].sum(), times["measured"].sum(), times["seconds_total"].sum() / 60
    if not measured:
        return "What the jobs cost is not known: Snakemake's own records of them are not here."
    longest = times.iloc[0]
    return (
        f"{jobs} jobs are behind the tables, of which {measured} were measured: {minutes:,.1f} minutes of computing"
        f" altogether, the largest share in ``{longest['rule']}`` ({longest['seconds_total'] / 60:,.1f} minutes); at"
        f" most {times['peak_memory_mib'].max():,.0f} MiB of memory in one job."
    )
