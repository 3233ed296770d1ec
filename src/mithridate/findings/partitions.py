"""What the tables of partition aggregation, backdoors and RAB say about published quantities."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from mithridate.certify.intervals import dkw_half_width
from mithridate.findings.measured import EXACT, Config, Measured, Rate, Tables, difference, records
from mithridate.options.certificates import CERTIFICATES

ENSEMBLE = ["k", "d", "seeds"]
DIGITS = 12  # differences of shares that are equal must be 0
OVER = (("runoff", "dpa"), ("finite_runoff", "finite"), ("finite", "dpa"))
"""Certificates that are to gain over others, of as many partitions."""


def partition_aggregation(tables: Tables, config: Config) -> Iterator[Measured]:
    """Accuracies and the median of every clean ensemble, and what one certificate gains over another."""
    curves = _curves(tables["dpa_cert"])
    for row in records(tables["dpa_summary"]):
        ensemble = [row[name] for name in ENSEMBLE]
        words, curve = _words(row["method"], *ensemble), curves["pointwise", row["method"], *ensemble]
        if row["seeds"] == 1:
            yield from _accuracies(row, curve, words, config["confidence"])
    dataset = tables["dpa_cert"]["dataset"].iloc[0]
    for better, base in OVER:
        for (_, method, *ensemble), curve in curves.items():
            k, d, seeds = ensemble
            other = curves.get(("pointwise", base, k, d if base == "finite" else 1, seeds))
            if method == better and other is not None:
                gain, half = _largest_gain(curve, other, config["confidence"])
                yield Measured(
                    "largest gain in certified accuracy over all radii",
                    dataset,
                    _words(method, *ensemble),
                    *(gain, gain - half, gain + half),
                    {"method": f"{better} over {base}"},
                    {"k": k, "d": d},
                )
    for (kind, _, *ensemble), curve in curves.items():
        if kind == "collective":
            pointwise = curves["pointwise", "dpa", *ensemble]
            gain = round((curve["certified_accuracy"] - pointwise["certified_accuracy"]).min(), DIGITS)
            yield Measured(
                "smallest gain in certified accuracy over all radii",
                dataset,
                f"collective, {_words('dpa', *ensemble)}",
                *(gain, gain, gain),
                {"method": "collective over dpa"},
                interval=EXACT,
            )


def _accuracies(row: Mapping[str, Any], curve: pd.DataFrame, words: str, confidence: float) -> Iterator[Measured]:
    of, at = {"method": row["method"]}, {"k": row["k"], "d": row["d"]}
    low, high = ((curve[name] >= 0.5).sum() for name in ("ci_low", "ci_high"))
    name = "median certified robustness as printed"
    yield Measured(name, row["dataset"], words, row["median_printed"], low, high, of, at)
    clean = row["clean_accuracy"], row["ci_low"], row["ci_high"]
    yield Measured("clean accuracy", row["dataset"], words, *clean, of, at)
    base = Rate(row["base_accuracy"], row["n_test"])
    yield Measured("base accuracy", row["dataset"], words, base.share, *base.bounds(confidence), of, at)


def _largest_gain(curve: pd.DataFrame, other: pd.DataFrame, confidence: float) -> tuple[float, float]:
    """The gain, and half its interval: both curves lie in their bands together."""
    gain = curve["certified_accuracy"].subtract(other["certified_accuracy"], fill_value=0).max()
    return gain, 2 * dkw_half_width(int(curve["n_test"].iloc[0]), (1 + confidence) / 2)


def backdoors(tables: Tables, config: Config) -> Iterator[Measured]:
    """That no attack beats a certificate, and how far ensembles bring the success rate down."""
    matrix = tables["backdoor_matrix"]
    for attack, own in matrix[matrix["poisoned_images"] > 0].groupby("attack", sort=False):
        dataset, ensembles = own["dataset"].iloc[0], own[own["defence"] != "single"]
        if ensembles.empty:
            continue
        spare = min(
            (ensembles[real] - ensembles[certified]).min()
            for real, certified in (
                ("clean_accuracy", "certified_clean"),
                ("triggered_accuracy", "certified_triggered"),
            )
        )
        name = "accuracy under the attack minus certified accuracy, smallest over ensembles and attack sizes"
        about = f"{attack}, {len(ensembles)} ensembles and sizes"
        yield Measured(name, dataset, about, spare, spare, spare, interval=EXACT)
        singles = own[own["defence"] == "single"].set_index("poisoned_images")
        for row in records(ensembles):
            single = singles.loc[row["poisoned_images"]]
            undefended, ensemble = (Rate(one["asr"], one["n_triggered"]) for one in (single, row))
            words = _words(row["defence"], *(row[name] for name in ENSEMBLE))
            yield Measured(
                "attack success rate of the undefended classifier minus the ensemble's",
                dataset,
                f"{attack}, {row['poisoned_images']:.0f} poisoned images, {words}",
                *difference(undefended, [ensemble], config["confidence"]),
                {"method": row["defence"]},
            )


def rab(tables: Tables, config: Config) -> Iterator[Measured]:
    """The largest radius that so many networks can certify, the attacks' norms, and what is certified against them."""
    table = tables["rab_cert"]
    for _, own in table.groupby(["task", "sigma", "bound"], sort=False):
        first = records(own)[0]
        sigma, bound = first["sigma"], first["bound"]
        words = f"{first['task'].replace('v', ' against ')}, N = {first['models']}, σ = {sigma:g}, {bound}"
        most = first["largest_radius"] / sigma
        yield Measured(
            "largest certifiable radius / σ",
            first["dataset"],
            words,
            *(most, most, most),
            {"method": bound},
            {"n": first["models"], "alpha": first["alpha"]},
            interval=EXACT,
        )
        reached = own[(own["radius"] == own["attack_strength"]) & ~own["vacuous"].astype(bool)]
        for row in records(_attacked(reached)):
            yield Measured(
                "certified accuracy against the very attack, on triggered images",
                row["dataset"],
                f"{words}, {row['trigger']} on {row['poisoned_images']} images, L2 norm {row['attack_strength']:.2f}",
                *(row["certified_accuracy"], row["ci_low"], row["ci_high"]),
            )
    for row in records(_attacked(table).drop_duplicates(["trigger", "poisoned_images"])):
        norm, count = row["attack_strength"], row["poisoned_images"]
        name, words = "L2 norm of all trigger patterns together", f"{row['trigger']} on {count} images"
        of, at = {"trigger": row["trigger"]}, {"poisoned": count}
        yield Measured(name, row["dataset"], words, norm, norm, norm, of, at, interval=EXACT)


def _attacked(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["poisoned_images"] > 0) & (table["inputs"] == "triggered")]


def _curves(cert: pd.DataFrame) -> dict[tuple[Any, ...], pd.DataFrame]:
    """The clean-trained ensembles' curves over clean test images, by radius."""
    clean = cert[(cert["variant"] == "clean") & (cert["inputs"] == "clean")]
    groups = clean.groupby(["certificate_kind", "method", *ENSEMBLE], sort=False)
    return {tuple(key): own.set_index("radius") for key, own in groups}


def _words(method: str, k: int, d: int, seeds: int) -> str:
    return f"{CERTIFICATES[method].title}, k = {k}, d = {d}" + (f", {seeds} seeds" if seeds > 1 else "")
