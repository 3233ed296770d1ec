"""What each part of a run found, in a sentence or two with its tables' numbers. Brackets are the tables' intervals."""

from collections.abc import Callable, Mapping

import pandas as pd

from mithridate.options.certificates import CERTIFICATES
from mithridate.options.dgn_runs import UNDEFENDED

Tables = Mapping[str, pd.DataFrame]


def partition_aggregation(tables: Tables) -> str:
    best = tables["dpa_summary"].sort_values("median_radius", ascending=False, kind="stable").iloc[0]
    half = (
        f"for at least half of the test images no {best['median_radius']:.0f} insertions or deletions of training"
        " samples can change that: this is proved."
        if pd.notna(best["median_radius"])
        else "fewer than half of them are certified against anything."
    )
    return f"{_ensemble(best)} classifies {_share(best, 'clean_accuracy', 'ci')} of the test images right; {half}"


def backdoors(tables: Tables) -> str:
    table = tables["backdoor_matrix"]
    worst = table[table["poisoned_images"] == table["poisoned_images"].max()]
    single, ensemble = worst[worst["defence"] == "single"].iloc[0], worst[worst["defence"] != "single"].iloc[0]
    certified = table[(table["defence"] != "single") & (table["poisoned_images"] > 0) & (table["certified_clean"] > 0)]
    text = (
        f"With {single['poisoned_images']} poisoned training images ({single['trigger']}) one undefended classifier"
        f" takes {_share(single, 'asr')} of the triggered test images for the attacker's class, {_ensemble(ensemble)}"
        f" {_share(ensemble, 'asr')}: this is measured."
    )
    if certified.empty:
        return f"{text} So many poisoned images are beyond what is certified."
    most = certified.sort_values(["poisoned_images", "certified_clean"]).iloc[-1]
    return (
        f"{text} It is proved that {_percent(most['certified_clean'])} of the clean test images stay right whichever"
        f" {most['poisoned_images']} training images are replaced ({_ensemble(most)})."
    )


def rab(tables: Tables) -> str:
    table = tables["rab_cert"]
    own = table[(table["radius"] == table["attack_strength"]) & (table["attack_strength"] > 0)]
    own = own[(own["inputs"] == "triggered") & ~own["vacuous"].astype(bool)]
    if own.empty:
        best = table[table["radius"] == table["radius"].max()].sort_values("certified_accuracy").iloc[-1]
        what = f"changes of L2 norm {best['radius']:g} over all triggers together"
    else:
        best = own.sort_values("certified_accuracy").iloc[-1]
        what = f"the attack itself, whose triggers have L2 norm {best['radius']:.2f} together"
    return (
        f"With {best['models']} networks at σ = {best['sigma']:g}, {_share(best, 'certified_accuracy', 'ci')} of the"
        f" {best['n_test']} {best['inputs']} test images are right and proved to withstand {what}."
    )


def smoothing(tables: Tables) -> str:
    claims = tables["smoothing_claims"]
    claims = claims[(claims["test_classes"] == "target") & claims["drop"].notna()]
    falls = {kind: rows["drop"] for kind, rows in claims.groupby("training_set")}
    if not falls:
        return "Average certified radii were not measured, because certification stopped early (sequential)."
    classes = ", ".join(map(str, claims["target"].unique()))
    kinds = {
        "poisoned": f"Poisons made against the network they are tried on make the average certified radius of class"
        f" {classes} fall by {{}}",
        "transfer": "poisons made against another network by {}",
        "random": "random changes of the same size by {}",
    }
    return "; ".join(text.format(_spread(falls[kind])) for kind, text in kinds.items() if kind in falls) + "."


def badnet(tables: Tables) -> str:
    table = tables["badnet_repair"]
    table = table[table["rule"] != "agreement"]
    before, after = (table[table["defence"] == defence] for defence in (UNDEFENDED, "combined"))
    return (
        f"In {before['net'].nunique()} networks with backdoors ({len(before)} triggers in all) Fine-Pruning and STRIP"
        f" together bring the attack's success rate from {_spread(before['asr'])} to {_spread(after['asr'])},"
        f" and accuracy on clean images from {_spread(before['clean_accuracy'])} to"
        f" {_spread(after['clean_accuracy'])}: measured with these triggers, not certified."
    )


def adversarial(tables: Tables) -> str:
    table = tables["dgn_robustness"]
    robust = table[table["defence"] != UNDEFENDED]
    own = robust[(robust["mode"] == "transfer") & (robust["attack"] == robust["defence"])]
    clean = table[(table["mode"] == "clean") & (table["defence"] == UNDEFENDED)].iloc[0]
    white = robust[(robust["mode"] == "white-box") & (robust["epsilon"] == robust["epsilon"].max())]
    text = f"The undefended network classifies {_share(clean, 'robust_accuracy')} of the clean test images right"
    trained = []
    if len(own):
        trained.append(f"get {_spread(own['robust_accuracy'])} of the images of their own attack right")
    if len(white):
        least = white.groupby("defence")["robust_accuracy"].min()
        trained.append(f"are right on {_spread(least)} when attacked themselves with ε = {white['epsilon'].max():g}")
    text += f". Networks trained on adversarial images {', but '.join(trained)}" if trained else ""
    return f"{text}: measured, not certified."


HEADLINES: Mapping[str, Callable[[Tables], str]] = {
    "dpa": partition_aggregation,
    "backdoor": backdoors,
    "rab": rab,
    "smoothing": smoothing,
    "badnet": badnet,
    "dgn": adversarial,
}


def _ensemble(row: pd.Series) -> str:
    method = row["defence" if "defence" in row else "method"]
    more = f", d = {row['d']}" if row["d"] != 1 else ""
    return f"{CERTIFICATES[method].title} (k = {row['k']}{more})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _share(row: pd.Series, name: str, ends: str = "") -> str:
    low, high = (row[f"{ends or name}_{end}"] for end in ("low", "high"))
    return f"{_percent(row[name])} [{_percent(low)}, {_percent(high)}]"


def _spread(shares: pd.Series) -> str:
    if shares.isna().all():
        return "an unmeasured share"
    low, high = (f"{100 * share:.1f}".replace("-", "−") for share in (shares.min(), shares.max()))
    return f"{low} %" if low == high else f"{low} to {high} %" if "−" in low + high else f"{low}–{high} %"
