"""The numbers and claims of the papers: published.csv, one row each.

Columns: id; what it is of (part, dataset, method, attack, trigger, net; empty where it is not tied to one); its setting
(k, d, n noises or networks, alpha, frr, tau, poisoned images); quantity; relation, = for a number, otherwise what the
paper claims of it; value (value_high: the upper end of a printed range) and unit; needs, the options that must be those
of the papers' overlay in config/ for the setting to be the same; unlike, in words, what no option can make the same;
source and place in it; run, with which options of Snakemake it would be made. Sizes of networks and check values of
formulas are no results: tests hold them.
"""

from functools import cache
from importlib.resources import files

import pandas as pd

OF = ("method", "attack", "trigger", "net")
"""What a published row and ours must share, where the published one names it."""
SETTING = ("k", "d", "n", "alpha", "frr", "tau", "poisoned")
"""Numbers in which ours may differ, which is then said."""
NUMBER = "="


@cache
def published() -> pd.DataFrame:
    """All rows, as text: the digits of a value are part of what is printed."""
    with files("mithridate.findings").joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)
