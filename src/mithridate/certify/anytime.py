"""Certification that stops as soon as it can: a bound on a probability that holds at every number of draws at once.

After n draws of which `hits` gave the class, the likelihood ratio of q against p, averaged over a uniform q in (p, 1],

    M_n(p) = 1/(1−p) ∫_p^1 (q/p)^hits ((1−q)/(1−p))^(n−hits) dq,

is the evidence against every probability up to p. One draw multiplies the ratio by a factor of mean
πq/p + (1−π)(1−q)/(1−p) <= 1 if the true probability is π <= p < q, so that M_n is a nonnegative supermartingale that
starts at 1, and M_n ever reaches 1/α with probability at most α (Ville 1939).

Sources: Robbins, "Statistical methods related to the law of the iterated logarithm", Annals of Mathematical
Statistics 41 (1970), for the method of mixtures; Howard, Ramdas, McAuliffe & Sekhon, "Time-uniform, nonparametric,
nonasymptotic confidence sequences", Annals of Statistics 49 (2021), for confidence sequences by conjugate mixtures
(the one-sided beta-binomial; here with the uniform distribution above p as the mixture). Voráček, "Treatment of
statistical estimation problems in randomized smoothing for adversarial robustness", NeurIPS 2024, stops
certification by confidence sequences in the same manner.
"""

from bisect import bisect_left

import numpy as np
import pandas as pd
from scipy.special import betaincc, betaln, ndtr, xlog1py, xlogy

from mithridate.certify.smoothing import (
    check_counts,
    check_samples,
    largest_radius,
    probability_bound,
    radius_of,
    rows_of,
)
from mithridate.errors import InputError
from mithridate.options.smoothing import FINAL_SHARE

BISECTIONS = 60  # halvings of an interval within [0, 1]


def log_evidence(hits: np.ndarray | int, n: np.ndarray | int, p: np.ndarray | float) -> np.ndarray:
    """ln M_n(p), elementwise: how strongly `hits` of n draws speak against every probability up to p < 1."""
    misses = np.subtract(n, hits)
    with np.errstate(divide="ignore"):  # ln 0 = −∞: no evidence at all
        above = np.log(betaincc(np.add(hits, 1.0), misses + 1.0, p))
    likelihood = xlogy(hits, p) + xlog1py(misses, np.negative(p))
    return betaln(np.add(hits, 1.0), misses + 1.0) + above - np.log1p(np.negative(p)) - likelihood


def anytime_bound(hits: np.ndarray | int, n: np.ndarray | int, alpha: float) -> np.ndarray:
    """A lower bound on a probability, elementwise, that may be looked at after every draw.

    With probability at least 1 − alpha over the infinite sequence of draws, the bounds after 1, 2, 3, … draws are all
    at most the true probability; so one may stop whenever one likes. The bound is the p at which M_n(p) = 1/alpha;
    rounding goes down. (d/dp ln M_n = (1 − 1/M_n)/(1−p) − (hits − np)/(p(1−p)) is negative up to p = hits/(n+1), and
    beyond M_n <= (1 + 1/n)^n < e: the evidence is at least 1/alpha > e exactly up to one point.) Raises InputError as
    smoothing.probability_bound does, and unless alpha < 1/e.
    """
    s, total = check_counts(hits, n, alpha)
    if alpha >= np.exp(-1):
        raise InputError(f"alpha = {alpha}: a bound for all times needs alpha below 0.36, 0.001 for instance.")
    low, high = np.zeros(s.shape), s / (total + 1)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        excluded = log_evidence(s, total, middle) >= -np.log(alpha)
        low, high = np.where(excluded, middle, low), np.where(excluded, high, middle)
    return low


class Sequential:
    """Decides for each test image whether its certified radius is at least `radius`, by up to n noises.

    The error is split: (1 − FINAL_SHARE)·alpha for a bound that holds at all times, FINAL_SHARE·alpha for
    Clopper–Pearson after n draws. With probability at least 1 − alpha over the noise, for each test image by itself,
    an image is not certified, nor given a radius, beyond what its true probability allows, however often and whenever
    one looks. An image whose probability is at least Φ(radius/σ) is given up before n draws with probability at most
    alpha (which harms no certificate); apart from that, images are given up early only where draws to come could
    not change the decision.

    Raises InputError where n agreeing noises could not certify `radius`, and for numbers out of range.
    """

    def __init__(self, *, n: int, sigma: float, alpha: float, radius: float = 0.0) -> None:
        if not 0 <= radius < np.inf:
            raise InputError(f"radius = {radius}: certification stops at a radius of 0 or more.")
        self.n, self.sigma, self.radius = n, sigma, radius
        self.early, self.final, self.given_up = (1 - FINAL_SHARE) * alpha, FINAL_SHARE * alpha, alpha
        try:
            check_samples(n, sigma, self.final)
        except InputError as error:
            raise InputError(f"stopping early leaves {FINAL_SHARE:g} of alpha for the last look: {error}") from error
        anytime_bound(n, n, self.early)  # refuses what is no level before any noise is drawn
        self.probability = float(ndtr(radius / sigma))
        self.needed = bisect_left(range(n + 1), self.probability, key=lambda n_a: float(self._final(n_a)))
        if self.needed > n:
            raise InputError(
                f"no image can be certified at radius {radius:g}: the largest with N = {n} is"
                f" {largest_radius(n, sigma, self.final):.4f}; stop at a smaller one or give more noises."
            )

    def decided(self, n_a: np.ndarray | int, n: np.ndarray | int) -> np.ndarray:
        """int8, elementwise, after n_a of n draws: 1 certified at the radius, −1 not, 0 undecided; 0 never after all
        n draws. Once decided an image must not be asked about again."""
        hits, total = check_counts(n_a, n, self.early)
        certified = log_evidence(hits, total, self.probability) >= -np.log(self.early)
        certified |= (total == self.n) & (hits >= self.needed)
        hopeless = log_evidence(total - hits, total, 1 - self.probability) >= -np.log(self.given_up)
        hopeless |= hits + (self.n - total) < self.needed
        return np.where(certified, 1, np.where(hopeless, -1, 0)).astype(np.int8)

    def certified_radius(self, n_a: np.ndarray | int, n: np.ndarray | int) -> np.ndarray:
        """The radius that is certified after n_a of n draws, NaN where none is. Certification stops at `radius`, so
        that only smaller ones are certified as often as with a fixed number of noises."""
        hits, total = check_counts(n_a, n, self.early)
        p_a = anytime_bound(hits, total, self.early)
        p_a = np.where(total == self.n, np.maximum(p_a, self._final(np.minimum(hits, self.n))), p_a)
        radius = radius_of(p_a, self.sigma)
        return np.where(self.decided(hits, total) == 1, np.fmax(radius, self.radius), radius)

    def _final(self, n_a: np.ndarray | int) -> np.ndarray:
        return probability_bound(n_a, self.n, self.final)


def sequential_rows(
    rule: Sequential,
    selected: np.ndarray,
    n_a: np.ndarray,
    n: np.ndarray,
    labels: np.ndarray,
    indices: np.ndarray,
) -> pd.DataFrame:
    """The table of smoothing.example_rows where each image stopped after its own n [n] draws; all arguments [n].

    The radius is the one that was certified when it stopped: a certificate like any other, but no estimate of what N
    noises would have certified, so that average radii of such tables say nothing.
    """
    return rows_of(selected, n_a, n, rule.certified_radius(n_a, n), labels, indices)
