"""What the tables of randomized smoothing, BadNet repair and adversarial data say about published quantities."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from mithridate.certify.smoothing_table import FEWEST
from mithridate.findings.measured import EXACT, Config, Measured, Rate, Tables, difference, records
from mithridate.options.dgn_runs import FAILED, RANDOM, UNDEFENDED

FALL = "relative fall of the target class's average certified radius"
SHARES = {"clean accuracy": "clean_accuracy", "attack success rate": "asr", "false acceptance rate": "far"}
LOWERED = "attack success rate of the suspicious network minus the repaired one's"
OTHER_VICTIM = f"{FALL}, poison made against another victim, minus the fall by random ±ε"
CONTROL = f"{FALL}, random ±ε"


def smoothing(tables: Tables, config: Config) -> Iterator[Measured]:
    """How far poisons make the average certified radius of their class fall, and the largest radius there can be."""
    claims = tables["smoothing_claims"]
    rows = records(claims[(claims["test_classes"] == "target") & claims["drop_low"].notna()])
    noise = {_victim(row): row for row in rows if row["training_set"] == RANDOM}
    for row in rows:
        fall, over = (row["drop"], row["drop_low"], row["drop_high"]), "over test images and seeds"
        quantity = {"poisoned": FALL, RANDOM: CONTROL}.get(row["training_set"])
        if row["training_set"] == "transfer" and _victim(row) in noise:
            quantity, other = OTHER_VICTIM, noise[_victim(row)]
            fall = (fall[0] - other["drop"], fall[1] - other["drop_high"], fall[2] - other["drop_low"])
            over = f"{over}, both falls' ends: at least {2 * config['confidence'] - 1:.0%} of certainty"
        if quantity is None:  # a user's own poison
            continue
        words = f"{row['procedure']}, σ = {row['sigma']:g}, {row['model']}, {row['poison']}, {row['seeds']} seeds"
        yield Measured(
            quantity,
            row["dataset"],
            f"{words}, {row['n_test']} test images",
            *fall,
            {"method": row["procedure"]},
            interval=over,
            decidable=row["seeds"] > 1 and row["n_test"] >= FEWEST and fall[1] < fall[2],
        )
    first = tables["smoothing_cert"].iloc[0]
    if not config["smoothing"]["certify"]["sequential"]:
        most, n = first["largest_radius"] / first["sigma"], first["n"]
        at, words = {"n": n, "alpha": first["alpha"]}, f"{n:.0f} noises, α = {first['alpha']:g}"
        name = "largest certifiable radius / σ"
        yield Measured(name, first["dataset"], words, most, most, most, at=at, interval=EXACT)


def _victim(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["procedure"], row["sigma"], row["model"]


def badnet(tables: Tables, config: Config) -> Iterator[Measured]:
    """Accuracy and success rate of every network under every defence, and how far the latter falls."""
    table, options = tables["badnet_repair"], config["badnet"]
    table = table[table["rule"] != "agreement"].fillna({"dataset": "", "trigger": ""})
    at = {"frr": options["strip"]["frr"], "tau": options["tau"]}
    suspicious = {(row["net"], row["trigger"]): row for row in records(table) if row["defence"] == "none"}
    for row in records(table):
        before = suspicious[row["net"], row["trigger"]]
        of = {"method": row["defence"], **{name: row[name] for name in ("net", "trigger")}}
        about = row["dataset"], ", ".join(filter(None, (row["net"], row["trigger"], row["defence"])))
        for quantity, name in SHARES.items():
            if pd.notna(row[name]):
                yield Measured(quantity, *about, row[name], row[f"{name}_low"], row[f"{name}_high"], of, at)
        if row is before and "held_out_accuracy" in row:
            held_out = row["held_out_accuracy"]
            name = "clean accuracy on validation images"
            yield Measured(name, *about, held_out, held_out, held_out, of, interval=EXACT)
        if row is not before and row["n_triggered"]:
            rates = (Rate(one["asr"], one["n_triggered"]) for one in (before, row))
            fall = difference(next(rates), list(rates), config["confidence"])
            yield Measured(LOWERED, about[0], f"{about[1]}: {row['asr']:.1%} left", *fall, of)


def adversarial(tables: Tables, config: Config) -> Iterator[Measured]:
    """The matrix of transferred attacks, and what controls say about the robustness it shows."""
    table, confidence = tables["dgn_robustness"].astype({"note": object}).fillna({"note": ""}), config["confidence"]
    failed = set(table.loc[table["note"].str.contains(FAILED), "attack"])
    dataset = table["dataset"].iloc[0]
    losses = [one["custom_loss"] for one in config["dgn"]["generators"]]
    for row in records(table[table["mode"].isin(["clean", "transfer"])]):
        clean, note = row["mode"] == "clean", f" ({row['note']})" if row["note"] else ""
        yield Measured(
            "clean accuracy of the target" if clean else "robust accuracy",
            dataset,
            f"{_named(row['defence'])}{'' if clean else ', attacked with ' + row['attack']}{note}",
            *(row["robust_accuracy"], row["robust_accuracy_low"], row["robust_accuracy_high"]),
            {"method": row["defence"], "attack": row["attack"]},
        )
    rates, white_box = _rates(table), _white_box(table)
    for loss in losses:
        others = [
            rates[loss, other, "transfer"] for other in losses if other != loss if (loss, other, "transfer") in rates
        ]
        own = rates.get((loss, loss, "transfer"))
        if own is None:
            continue
        tried = loss not in failed
        own_words = _named(loss) + ("" if tried else ", whose own attack failed")
        if others:
            name = "robust accuracy on its own generators' images minus the highest on another loss's"
            yield Measured(name, dataset, own_words, *difference(own, others, confidence), decidable=tried)
        wrong = rates[loss, loss, "wrong-class"]
        name = "robust accuracy on wrong classes' generators' images minus that on its own class's"
        yield Measured(name, dataset, own_words, *difference(wrong, [own], confidence), decidable=tried)
        smallest = min((epsilon for _, epsilon in white_box), default=0)
        if (loss, smallest) in white_box:
            name = "robust accuracy under white-box PGD at the smallest radius minus the undefended network's"
            both = white_box[loss, smallest], [white_box[UNDEFENDED, smallest]]
            yield Measured(name, dataset, f"{_named(loss)}, ε = {smallest:g}", *difference(*both, confidence))


def _rates(table: pd.DataFrame) -> dict[tuple[str, str, str], Rate]:
    known = table[table["mode"].isin(["transfer", "wrong-class"])]
    return {(row["defence"], row["attack"], row["mode"]): _rate(row) for row in records(known)}


def _white_box(table: pd.DataFrame) -> dict[tuple[str, float], Rate]:
    """Every network under PGD, by radius."""
    pgd = table[(table["mode"] == "white-box") & (table["attack"] == "pgd") & table["true_label"].astype(bool)]
    return {(row["defence"], row["epsilon"]): _rate(row) for row in records(pgd)}


def _rate(row: Mapping[str, Any]) -> Rate:
    return Rate(row["robust_accuracy"], row["n"])


def _named(defence: str) -> str:
    return "target" if defence == UNDEFENDED else f"trained on {defence}"
