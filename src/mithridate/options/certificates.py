"""The certificates of single test images: what each is called, is drawn with, and holds for; no mathematics here.

One entry here and one in certify/methods.py make a certificate; options, tables and pictures follow this table.
"""

from typing import NamedTuple


class Certificate(NamedTuple):
    title: str
    """in words"""
    short: str
    """in a picture's legend"""
    colour: str
    overlapping: bool = False
    """whether it is for subsets that overlap (d > 1); the others hold for disjoint ones only (d = 1), where a sample
    touches one classifier"""
    runoff: bool = False
    """whether the prediction is the Run-off Election's, which needs scores; the others' is the plurality vote"""


CERTIFICATES = {  # colours distinguishable without colour vision (Okabe & Ito)
    "dpa": Certificate("Deep Partition Aggregation", "DPA", "#0072B2"),
    "runoff": Certificate("Run-off Election", "Run-off Election", "#D55E00", runoff=True),
    "finite": Certificate("Finite Aggregation", "Finite Aggregation", "#56B4E9", overlapping=True),
    "finite_runoff": Certificate(
        "Finite Aggregation with Run-off Election",
        "Finite Aggregation + Run-off Election",
        "#E69F00",
        overlapping=True,
        runoff=True,
    ),
}


def names(*, overlapping: bool) -> tuple[str, ...]:
    """The certificates for subsets that overlap, or for disjoint ones."""
    return tuple(name for name, one in CERTIFICATES.items() if one.overlapping == overlapping)
