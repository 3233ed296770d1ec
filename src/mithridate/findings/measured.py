"""One of our own results, as it is laid beside published ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mithridate.certify.intervals import clopper_pearson

Tables = Mapping[str, pd.DataFrame]
"""Final tables by name, without .csv."""
Config = Mapping[str, Any]
IMAGES, EXACT = "over test images", "exact on these test images"


@dataclass(frozen=True)
class Measured:
    """A quantity of published.csv in one setting of ours; of: method, attack, trigger, net; at: k, d, …"""

    quantity: str
    dataset: str
    setting: str
    ours: float
    low: float
    high: float
    of: Mapping[str, str] = field(default_factory=dict)
    at: Mapping[str, float] = field(default_factory=dict)
    interval: str = IMAGES
    decidable: bool = True


@dataclass(frozen=True)
class Rate:
    """A share of n test images."""

    share: float
    n: float

    def bounds(self, confidence: float) -> tuple[float, float]:
        low, high = clopper_pearson(np.array(self.share * self.n), np.array(self.n), confidence)
        return float(low), float(high)


def difference(of: Rate, others: Sequence[Rate], confidence: float) -> tuple[float, float, float]:
    """A rate minus the highest of others, with an interval that holds with probability `confidence`, whatever the
    dependence: each rate's own interval at the level that lets all hold together (Bonferroni)."""
    level = 1 - (1 - confidence) / (1 + len(others))
    (low, high), ends = of.bounds(level), np.array([other.bounds(level) for other in others])
    most = max(other.share for other in others)
    return of.share - most, float(low - ends[:, 1].max()), float(high - ends[:, 0].max())


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table row by row."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
