"""The pictures of randomized smoothing: what networks certify on the poisoned class, and how far poisons move it."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from mithridate.certify.smoothing_table import CLAIMED_DROP, FAILS, HOLDS, UNDECIDED
from mithridate.pictures.style import COLOURS, LINES, NAMES, Figure, image_pairs, plt

SHOWN = 8  # example images
SETS = ["clean", "poisoned", "random", "own"]  # training sets that stand beside each other in one picture
HATCHES = ["", "///", "...", "xxx"]
DARK = 0.7  # change beyond which the colour map wants white text


def certified_accuracy(
    cert: pd.DataFrame, procedure: str, sigma: float, model: str, confidence: float
) -> tuple[Figure, str]:
    """Certified accuracy on the target class against the L2 radius, for one kind of network and every training set but
    those of transferred poisons: the mean over training seeds with their range shaded, for one seed its interval."""
    cert = cert[(cert["procedure"] == procedure) & np.isclose(cert["sigma"], sigma) & (cert["model"] == model)]
    cert = _by_training_set(cert)
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    sentences, bands = [], {}
    for label, training, number, rows in _each(cert):
        by_radius = rows.groupby("radius")
        accuracy, colour = by_radius["certified_accuracy"].mean(), COLOURS[training]
        style = LINES[(SETS.index(training) + number) % len(LINES)]
        axes.plot(accuracy.index, accuracy, f"o{style}", color=colour, label=label, markersize=4)
        if rows["seed"].nunique() == 1:
            low, high = by_radius["ci_low"].min(), by_radius["ci_high"].max()
            bands[f"{confidence:.0%} over the test images at each radius, for a single training seed"] = True
        else:
            low, high = by_radius["certified_accuracy"].min(), by_radius["certified_accuracy"].max()
            bands["from the lowest to the highest training seed"] = True
        axes.fill_between(accuracy.index, low, high, color=colour, alpha=0.15, linewidth=0)
        sentences.append(
            f"Training set {label}: {accuracy.iloc[0]:.1%} at radius {accuracy.index[0]:g},"
            f" average certified radius {_radius(rows)}."
        )
    axes.set(xlabel="L2 radius", ylabel="certified accuracy on the target class", ylim=(-0.02, 1.02))
    axes.legend(title="training set", fontsize=9, title_fontsize=9)
    return figure, " ".join(
        [
            f"{NAMES[procedure]}, σ = {sigma:g}, model {model}: {_points(cert)}, each certified from"
            f" N = {_range(cert['n'].round())} noises at α = {_range(cert['alpha'])}.",
            _seeds(cert),
            *sentences,
            f"Marks: the radii that were looked at. Bands: {'; '.join(bands)}.",
            "A certificate is about changes of a test image and says nothing of changes of the training set: it is what"
            " the poison is made to undo.",
        ]
    )


def average_radii(cert: pd.DataFrame, confidence: float | None = None) -> tuple[Figure, str]:
    """The average certified radius on the target class for every kind of network and every training set but those of
    transferred poisons. confidence: level of the intervals in the table, named in the caption if given."""
    cert = _by_training_set(cert).drop_duplicates(["victim", "label", "seed"])
    measured = bool(cert["acr"].notna().any())  # not where certification stopped early
    victims, labels = list(cert["victim"].unique()), list(cert["label"].unique())
    width = 0.8 / len(labels)
    wide = max(5.2, 1.4 + len(victims) * max(1.3, 0.4 * len(labels), _inches(victims)))
    figure, axes = plt.subplots(figsize=(wide, 4.4))
    for label, training, number, rows in _each(cert):
        by_victim = rows.groupby("victim", sort=False)
        mean = by_victim["acr"].mean()
        x = np.array([victims.index(name) for name in mean.index]) + (labels.index(label) + 0.5) * width - 0.4
        axes.bar(
            x, mean, 0.9 * width, color=COLOURS[training], edgecolor="white", linewidth=0, label=label,
            hatch=HATCHES[number % len(HATCHES)],
        )  # fmt: skip
        whiskers = [(mean - by_victim["acr_low"].min()).clip(0), (by_victim["acr_high"].max() - mean).clip(0)]
        axes.errorbar(x, mean, yerr=whiskers, fmt="none", color="black", capsize=3, linewidth=1)
        for middle, (_, own) in zip(x, by_victim, strict=True):
            places = middle + 0.25 * width * np.linspace(-1, 1, len(own)) * (len(own) > 1)
            axes.plot(places, own["acr"], "o", color="white", markeredgecolor="black", markersize=4)
    axes.set_xticks(range(len(victims)), [_folded(name) for name in victims], fontsize=9)
    axes.grid(False, axis="x")
    axes.set_axisbelow(True)
    axes.set(ylabel="average certified radius (L2)", xlim=(-0.6, len(victims) - 0.4))
    axes.set_ylim(0, 1.05 * max(cert["acr"].max(), cert["acr_high"].max()) or 1) if measured else axes.set_ylim(0, 1)
    figure.legend(
        loc="outside upper center", ncols=max(1, min(len(labels), int(wide / (0.7 + _inches(labels))))), fontsize=9
    )
    return figure, " ".join(
        [
            "Average certified radius, 0 where the prediction is wrong or withheld, by the set that the network was"
            f" trained on: {_points(cert)}.",
            _seeds(cert),
            *(
                f"{victim}: {', '.join(f'{label} {_radius(own)}' for label, own in rows.groupby('label', sort=False))}."
                for victim, rows in cert.groupby("victim", sort=False)
            ),
            "Dots are training seeds and bars their means; whiskers run from the lowest to the highest end of the"
            f" seeds' {_level(confidence)}bootstrap intervals over test images.",
        ]
    )


def transfer(claims: pd.DataFrame, confidence: float | None = None) -> tuple[Figure, str]:
    """How far each poison moves the average certified radius on the target class of each kind of network.
    confidence: level of the intervals in the table, named in the caption if given."""
    claims = claims[claims["test_classes"] == "target"]
    claims = claims.assign(victim=_victims(claims), change=-claims["drop"])
    claims = claims.assign(made=_poisons(claims))
    victims = list(claims["victim"].unique())
    poisons = list(claims.sort_values("training_set", key=_rank, kind="stable")["made"].unique())
    wide = 2.2 + max(1.2, _inches(poisons)) + len(victims) * max(1.3, _inches(victims))
    figure, axes = plt.subplots(figsize=(wide, 1.7 + 0.7 * len(poisons)))
    cells = np.full((len(poisons), len(victims)), np.nan)
    for row in claims.to_dict("records"):
        y, x = poisons.index(row["made"]), victims.index(row["victim"])
        cells[y, x] = np.clip(row["change"], -1, 1)
        ink = "white" if abs(cells[y, x]) > DARK else "black"
        axes.text(
            x, y, f"{_percent(row['change'])}\n{_interval(row)}", ha="center", va="center", fontsize=8,
            color=ink, fontweight="bold" if row["claim"] == HOLDS else "normal",
        )  # fmt: skip
        if row["training_set"] == "poisoned":
            axes.add_patch(Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, fill=False, edgecolor=ink, linewidth=1.5))
    shown = axes.imshow(cells, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    axes.set_xticks(range(len(victims)), [_folded(name) for name in victims], fontsize=9)
    axes.set_yticks(range(len(poisons)), [_folded(name) for name in poisons], fontsize=9)
    axes.set(xlabel="network", ylabel="poison")
    axes.grid(False)
    bar = figure.colorbar(shown, ax=axes, pad=0.02, extend="max", format=lambda value, _: _percent(value))
    bar.set_label("change of the\naverage certified radius", fontsize=9)
    bar.ax.tick_params(labelsize=9)
    return figure, " ".join([_introduction(claims, confidence), *_findings(claims)])


def _introduction(claims: pd.DataFrame, confidence: float | None) -> str:
    seeds = claims["seeds"]
    return (
        "By how much the average certified radius of each kind of network (column) differs between training on a poison"
        f" (row) and on the clean set, by means over training seeds ({_range(seeds)}) and {_points(claims)}. In"
        f" brackets {_level(confidence)}bootstrap intervals over test images"
        + (" and seeds." if seeds.min() > 1 else "; one seed says nothing about retraining, so it decides no claim.")
    )


def _findings(claims: pd.DataFrame) -> list[str]:
    made, sentences = claims[claims["training_set"] == "poisoned"], []
    if len(made):
        each = (
            f"{row['victim']}: {_percent(row['change'])} {_interval(row)}".strip() for row in made.to_dict("records")
        )
        sentences.append(f"Framed, poisons made against the network they are tried on – {'; '.join(each)}.")
    groups = {"transfer": "Poisons made against another network", "own": "Own poisons", "random": "Random ±ε"}
    for training, name in groups.items():
        moved = claims.loc[claims["training_set"] == training, "change"].dropna()
        if len(moved):
            lowest, highest = _percent(moved.min()), _percent(moved.max())
            sentences.append(f"{name}: {lowest if lowest == highest else f'{lowest} to {highest}'}.")
    verdicts = claims.loc[claims["training_set"] != "random", "claim"]
    if len(verdicts):
        holds, fails, undecided = ((verdicts == verdict).sum() for verdict in (HOLDS, FAILS, UNDECIDED))
        sentences.append(
            f"Bold: it falls by more than {_percent(CLAIMED_DROP)[1:]} on the whole interval. Leaving random poisons"
            f" aside, this is so in {holds} of {len(verdicts)} cells, not so in {fails} and undecided in {undecided}."
        )
    return sentences


def perturbations(clean: np.ndarray, poisoned: np.ndarray, epsilon: float) -> tuple[Figure, str]:
    """Some training images float32 [n,C,H,W] in [0,1] before and after poisoning, and the difference."""
    count = min(SHOWN, len(clean))
    reach = max(epsilon, 1e-6)
    figure = image_pairs(clean[:count], poisoned[:count], ("original", "poisoned"), reach)
    bar = figure.colorbar(
        figure.axes[-1].images[0], ax=figure.axes, ticks=[-reach, 0, reach], shrink=0.3, anchor=(0, 0), pad=0.02
    )
    bar.ax.set_yticklabels(["−ε", "0", "ε"])
    change = np.abs(poisoned.astype(np.float64) - clean)
    return figure, (
        f"The first {count} of {len(clean)} poisoned training images: as they were, poisoned, and the difference"
        + (", averaged over colours" if clean.shape[1] > 1 else "")
        + f". Pixels lie between 0 and 1 and may move by ε = {epsilon:g}; over all these images the largest change is"
        f" {change.max():.4g}, the mean absolute change {change.mean():.4g}."
    )


def _by_training_set(cert: pd.DataFrame) -> pd.DataFrame:
    """The target class's rows in the order of SETS, with the network (victim) and the training set (label) in words."""
    cert = cert[(cert["test_classes"] == "target") & cert["training_set"].isin(SETS)]
    cert = cert.assign(victim=_victims(cert)).sort_values("training_set", key=_rank, kind="stable")
    own, poison = cert["training_set"] == "own", cert["poison"].fillna("").astype(str)
    name = cert["training_set"].map(NAMES) + (" " + poison).where(own & (poison != ""), "")
    return cert.assign(label=name + _target(cert))


def _each(cert: pd.DataFrame) -> Iterator[tuple[str, str, int, pd.DataFrame]]:
    """Label, training set, number among the labels of that training set (own poisons may be several), and rows."""
    seen: Counter[str] = Counter()
    for label, rows in cert.groupby("label", sort=False):
        training = str(rows["training_set"].iloc[0])
        yield str(label), training, seen[training], rows
        seen[training] += 1


def _victims(table: pd.DataFrame) -> pd.Series:
    names = table["procedure"].map(NAMES) + table["sigma"].map(", σ = {:g}".format)
    return names + (", " + table["model"] if table["model"].nunique() > 1 else "")


def _poisons(claims: pd.DataFrame) -> pd.Series:
    """What each poison was made against, where the table shows that; else its name."""
    name, training = claims["poison"].fillna("").astype(str), claims["training_set"]
    against = dict(zip(name[training == "poisoned"], claims["victim"][training == "poisoned"], strict=True))
    if len(set(against.values())) == len(against):
        name = name.map(lambda poison: f"against {against[poison]}" if poison in against else poison)
    name = (NAMES["own"] + " " + name).where(training == "own", name).where(training != "random", NAMES["random"])
    return name + _target(claims)


def _rank(training: pd.Series) -> pd.Series:
    return training.map(["clean", "poisoned", "transfer", "random", "own"].index)


def _target(table: pd.DataFrame) -> pd.Series | str:
    return ", class " + table["target"].astype(str) if table["target"].nunique() > 1 else ""


def _points(table: pd.DataFrame) -> str:
    targets = table["target"].drop_duplicates().astype(str)
    return f"{_range(table['n_test'])} test images of class {', '.join(targets)}"


def _range(numbers: pd.Series) -> str:
    low, high = f"{numbers.min():.12g}", f"{numbers.max():.12g}"
    return low if low == high else f"{low} to {high}"


def _seeds(cert: pd.DataFrame) -> str:
    seeds = cert.groupby(["victim", "label"])["seed"].nunique()
    if seeds.max() == 1:
        return "One training seed."
    return f"Means over training seeds ({_range(seeds)}), in brackets the lowest and the highest."


def _radius(rows: pd.DataFrame) -> str:
    """The average certified radius over seeds, and its range; nothing is averaged where certification stopped early."""
    seeds = rows.drop_duplicates("seed")["acr"]
    if seeds.isna().all():
        return "not measured"
    more = f" ({seeds.min():.3f} to {seeds.max():.3f})" if len(seeds) > 1 else ""
    return f"{seeds.mean():.3f}{more}"


def _percent(change: float) -> str:
    if not np.isfinite(change):
        return "undefined" if np.isnan(change) else f"{'+' if change > 0 else '−'}∞"
    whole = round(100 * change)
    return f"{whole:+d}\N{NO-BREAK SPACE}%".replace("-", "−") if whole else "0\N{NO-BREAK SPACE}%"


def _interval(row: dict) -> str:
    low, high = -row["drop_high"], -row["drop_low"]
    return "" if np.isnan(low) or np.isnan(high) else f"[{_percent(low)}, {_percent(high)}]"


def _level(confidence: float | None) -> str:
    return "" if confidence is None else f"{confidence:.0%} "


def _folded(name: str) -> str:
    return name.replace(", ", "\n").replace(" aug", "\naug")


def _inches(names: list[str]) -> float:
    """What the longest line of some names takes, folded and in small print."""
    return 0.085 * max(len(line) for name in names for line in _folded(name).splitlines())
