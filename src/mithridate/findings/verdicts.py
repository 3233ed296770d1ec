"""What may be said when ours stands beside a published number or claim; nowhere else is it decided.

A number, compared in the same setting only:

* agrees: the published value, as far as its digits go, lies within our interval;
* higher, lower: ours is, and the published value lies outside;
* not comparable: the setting is another one (fewer epochs, another network); both stand beside each other, no more.

A claim ("falls by more than 30 %"), in any setting, which is named beside it:

* holds: our whole interval satisfies it; does not hold: no value of it does;
* undecided: at this sample size neither is so, or what it is about did not come about (an attack failed).

Intervals are over test images, in randomized smoothing over seeds too (each says so); elsewhere networks
trained from another seed are not covered.
"""

from decimal import Decimal

from mithridate.certify.smoothing_table import FAILS, HOLDS, UNDECIDED
from mithridate.findings.published import NUMBER

AGREES, HIGHER, LOWER, OTHER = "agrees", "higher", "lower", "not comparable"
__all__ = ["AGREES", "FAILS", "HIGHER", "HOLDS", "LOWER", "OTHER", "UNDECIDED", "verdict"]


def verdict(
    relation: str,
    published: str,
    ours: float,
    low: float,
    high: float,
    *,
    published_high: str = "",
    same: bool,
    decidable: bool = True,
) -> str:
    """One of the words above.

    published: the value as printed, or a claim's threshold; published_high: the upper end of a printed range; low,
    high: our interval; same: whether the setting is the published one; decidable: whether the sample is large enough
    for an interval to mean anything.
    """
    value = float(published)
    if relation == NUMBER:
        if not same:
            return OTHER
        half = float(Decimal(1).scaleb(int(Decimal(published).as_tuple().exponent)) / 2)
        if low - half <= float(published_high or value) and high + half >= value:
            return AGREES
        return HIGHER if ours > value else LOWER
    all_of_it, none_of_it = {
        ">": (low > value, high <= value),
        ">=": (low >= value, high < value),
        "<=": (high <= value, low > value),
    }[relation]
    if not decidable or not (all_of_it or none_of_it):
        return UNDECIDED
    return HOLDS if all_of_it else FAILS
