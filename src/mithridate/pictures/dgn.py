"""The pictures of adversarial data: who is robust against whom, and what attacks and their generators look like."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from mithridate.adversarial.examples import Examples
from mithridate.adversarial.table import FAILED, TARGET
from mithridate.certify.intervals import clopper_pearson
from mithridate.pictures.style import LINES, Figure, image_pairs, plt

SHOWN = 10  # example images; classes whose losses have lines of their own
WIDE, HIGH = 0.84, 0.46  # inches of a cell
DARK = 0.55  # accuracy below which the colour map wants white text
WRONG = "#D55E00"
SYSTEMS = {
    "none": "no defence",
    "lrp": "LRP",
    "nce": "NCE",
    "suspiciousness": "suspiciousness",
    "fgsm": "FGSM",
    "pgd": "PGD",
    "autoattack": "AutoAttack",
}
HEADS = {"none": "clean", "random": "random\n±ε", "suspiciousness": "Susp.", "autoattack": "Auto-\nAttack"}
COLOURS = dict(zip(SYSTEMS, ["#555555", "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7"], strict=False))
CLASSES = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#555555"]
GROUPS = {"clean": "", "transfer": "transferred", "wrong-class": "wrong class", "random": "", "white-box": "white-box"}
OWN = {"transfer": "on such images made against the target", "wrong-class": "with the wrong class's generators"}
LOSSES = {
    "lrp": "squared distance from the original with relevant pixels darker, and others brighter, by ε",
    "nce": "mean squared change minus the target's cross-entropy, with no lower bound",
    "suspiciousness": "what suspicious units lose in activation, how far others move, and the mean squared change",
}


def matrix(table: pd.DataFrame, confidence: float) -> tuple[Figure, str]:
    """Robust accuracy of every network (row) under every attack at the full ε (column). table: see
    adversarial.table.tabulate."""
    table = table[(table["mode"] != "white-box") | np.isclose(table["epsilon"], full(table))]
    defences = list(table["defence"].unique())
    groups = {mode: rows for mode in GROUPS if len(rows := table[table["mode"] == mode])}
    heads = {mode: list(rows["attack"].unique()) for mode, rows in groups.items()}
    failed = set(table.loc[table["note"] == FAILED, "attack"])
    widths = [len(own) for own in heads.values()]
    size = 1.7 + WIDE * sum(widths) + 0.25 * len(widths), 1.55 + HIGH * len(defences)
    figure, grid = plt.subplots(1, len(groups), figsize=size, width_ratios=widths, sharey=True, squeeze=False)
    for axes, (mode, rows) in zip(grid[0], groups.items(), strict=True):
        cells = rows.pivot(index="defence", columns="attack", values="robust_accuracy")
        shown = _heat(axes, cells.reindex(index=defences, columns=heads[mode]))
        names = [HEADS.get(name, SYSTEMS.get(name, name)) for name in heads[mode]]
        weak = [mode == "transfer" and name in failed for name in heads[mode]]
        ticks = [f"{name}{' †' * flag}" for name, flag in zip(names, weak, strict=True)]
        axes.set_xticks(range(len(ticks)), ticks, fontsize=9)
        for label, flag in zip(axes.get_xticklabels(), weak, strict=True):
            label.set_color(WRONG if flag else "black")
        axes.set_title(GROUPS[mode], fontsize=10, fontweight="bold", y=1, pad=32)
    grid[0, 0].set_yticks(range(len(defences)), [SYSTEMS[name] for name in defences])
    grid[0, 0].set_ylabel("trained on")
    bar = figure.colorbar(shown, ax=grid, pad=0.01, aspect=25, ticks=[0, 0.5, 1], format="{x:.0%}")
    bar.ax.tick_params(labelsize=9)
    below = ["black frame: the kind of images that the network was trained on"]
    below += [f"† {FAILED}: it leaves the undefended target more than half of its accuracy"] * bool(failed)
    figure.supxlabel("\n".join(below), fontsize=9)
    sizes = table.groupby("mode")["n"].first()
    attacked = (
        f" ({sizes['white-box']} for white-box)" if sizes.get("white-box", sizes["clean"]) < sizes["clean"] else ""
    )
    opening = [
        "Percentage of test images that each network (row) gets right under each attack (column) within"
        f" ε = {full(table):g}, over {sizes['clean']} images{attacked} and {_seeds(table)}.",
        "transferred: made against the undefended target; wrong class: by the generator of another class, which misleads"
        " networks that have learned the hand of each class's generator; random: every pixel moved by +ε or −ε;"
        " white-box: against the network itself.",
    ]
    closing = "White-box accuracies bound robustness from above: a better attack may leave less."
    return figure, " ".join([*opening, *_headlines(table), closing, f"Brackets: {_intervals(table, confidence)}"])


def curves(table: pd.DataFrame, confidence: float) -> tuple[Figure, str]:
    """Robust accuracy of every network under white-box PGD against ε. table: see adversarial.table.tabulate."""
    pgd = (table["mode"] == "white-box") & (table["attack"] == "pgd") & (table["epsilon"] > 0)
    table = table[pgd | (table["mode"] == "clean")].sort_values("epsilon", kind="stable")
    figure, axes = plt.subplots(figsize=(7.2, 4.8))
    sentences = []
    names = [name for name in SYSTEMS if name in set(table["defence"])]
    for number, name in enumerate(names):
        rows = table[table["defence"] == name]
        radius, accuracy = rows["epsilon"], rows["robust_accuracy"]
        style: dict = {"color": COLOURS[name], "zorder": 3 + number}
        axes.plot(radius, accuracy, f"o{LINES[number % len(LINES)]}", label=SYSTEMS[name], markersize=4, **style)
        bounds = rows["robust_accuracy_low"], rows["robust_accuracy_high"]
        axes.fill_between(radius, *bounds, color=COLOURS[name], alpha=0.13, linewidth=0)
        each = [f"{value:.1%}" for value in accuracy[:-1]] + [_rate(rows.iloc[-1])]
        sentences.append(f"{SYSTEMS[name]} {', '.join(each)}")
    axes.set(
        xlabel="ε, the largest change of a pixel", ylabel="robust accuracy under white-box PGD", ylim=(-0.02, 1.02)
    )
    figure.legend(*axes.get_legend_handles_labels(), title="trained on", loc="outside right upper", fontsize=9)
    radii = ", ".join(f"{radius:g}" for radius in table["epsilon"].unique()[1:])
    used = table["n"].iloc[-1]
    opening = (
        "Share of test images that each network gets right when PGD attacks it itself, with true labels. At ε = 0"
        f" (clean, {table['n'].iloc[0]} images), then {radii} ({used} images), {_seeds(table)} –"
        if radii
        else "PGD is not among the white-box attacks of this run, so that only the accuracy on clean images is known –"
    )
    ending = "Accuracy under an attack is an upper bound of robustness: a better one may leave less."
    return figure, " ".join([opening, f"{'; '.join(sentences)}.", ending, f"Bands: {_intervals(table, confidence)}"])


def examples(
    originals: np.ndarray,
    said: np.ndarray,
    adversarial: Examples,
    answers: np.ndarray,
    names: Sequence[str],
    confidence: float,
) -> tuple[Figure, str]:
    """Some adversarial images beside their originals [n,C,H,W] in [0, 1]. said and answers: classes int64 that the target
    takes originals [n] and adversarial images [m] for; names: of the classes."""
    one, labels = adversarial, adversarial.labels
    chosen = shown_examples(labels)
    clean, made = originals[one.rows[chosen]], one.images[chosen]
    reach = max(one.epsilon if one.bounded else float(np.abs(made - clean).max()), 1e-6)
    figure = image_pairs(clean, made, ("original", "adversarial"), reach)
    for row, classes in enumerate((said[one.rows], answers)):
        for axes, place in zip(figure.axes[row * len(chosen) :], chosen, strict=False):
            right = classes[place] == labels[place]
            look = {"color": "black"} if right else {"color": WRONG, "fontweight": "bold"}
            axes.set_title(f"target: {names[classes[place]]}", fontsize=8, pad=3, **look)
    for axes, place in zip(figure.axes, chosen, strict=False):
        above = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center"}
        axes.annotate(f"class {names[labels[place]]}", (0.5, 1), (0, 15), fontsize=8, **above)
    grid, end = figure.axes, "ε" if one.bounded else f"{reach:.2g}"
    bar = figure.colorbar(grid[-1].images[0], ax=grid, ticks=[-reach, 0, reach], shrink=0.3, anchor=(0, 0), pad=0.01)
    bar.ax.set_yticklabels([f"−{end}", "0", end])
    each = pd.Series(answers == labels).groupby(labels).mean()
    low, high = (f"{each[c]:.1%} ({names[c]})" for c in (each.idxmin(), each.idxmax()))
    near = ", ".join(
        f"{what} {one.likeness[key]:.3g}" for key, what in (("linf", "L∞"), ("l2", "L2"), ("ssim", "SSIM"))
    )
    return figure, " ".join(
        [
            f"The first test images of {len(set(labels[chosen]))} classes, what {SYSTEMS[one.attack]} makes of them"
            f" {'within' if one.bounded else 'without keeping to'} ε = {one.epsilon:g}, and the difference"
            + (", averaged over colours;" if clean.shape[1] > 1 else ";"),
            "above each what the undefended target says, orange and bold where wrong.",
            f"Over all {len(labels)} images the target is right on {_share(said[one.rows] == labels, confidence)} of the"
            f" originals and {_share(answers == labels, confidence)} of the adversarial images ({confidence:.0%}"
            f" Clopper–Pearson intervals), by class from {low} to {high}.",
            f"Mean distance from the original: {near}.",
            f"The true class was {'' if one.true_label else 'not '}used in making them.",
        ]
    )


def shown_examples(labels: np.ndarray) -> np.ndarray:
    """Positions of SHOWN images, sorted by class: the first of each class, of evenly spaced ones where there are more
    than that, then the second ones, and so on."""
    found = np.unique(labels)
    found = found[np.linspace(0, len(found) - 1, min(SHOWN, len(found))).round().astype(np.int64)]
    places = np.flatnonzero(np.isin(labels, found))
    rank = pd.Series(labels[places]).groupby(labels[places]).cumcount().to_numpy()
    chosen = places[np.lexsort((labels[places], rank))[:SHOWN]]
    return chosen[np.lexsort((chosen, labels[chosen]))]


def losses(history: pd.DataFrame, loss: str, names: Sequence[str]) -> tuple[Figure, str]:
    """The loss of each class's generator against the step. history: class, step, loss; names: of the classes."""
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    classes = history["class"].unique()
    for number, (c, rows) in enumerate(history.groupby("class")):
        style: dict = {"color": CLASSES[number % len(CLASSES)], "label": names[int(str(c))]}
        if len(classes) > SHOWN:
            style = {"color": "#0072B2", "alpha": 0.3, "linewidth": 1}
        axes.plot(rows["step"], rows["loss"], LINES[number // len(CLASSES) % len(LINES)], **style)
    axes.set(xlabel="step", ylabel=f"{SYSTEMS[loss]} loss of a generator")
    if len(classes) <= SHOWN:
        figure.legend(*axes.get_legend_handles_labels(), title="class", loc="outside right upper", fontsize=9)
    step = int(history["step"].max())
    first, last = (history[history["step"] == at].set_index("class")["loss"] for at in (0, step))
    low, high = (f"{last[c]:.4g} ({names[c]})" for c in (last.idxmin(), last.idxmax()))
    return figure, (
        f"The loss of {len(classes)} generators, one per class, each on a batch of its own class: {LOSSES[loss]}. Mean"
        f" over classes {first.mean():.4g} at the first step, {last.mean():.4g} at the last, number {step + 1}: there from"
        f" {low} to {high}. Losses of different systems cannot be compared; what a system is worth, the matrix says."
    )


def full(table: pd.DataFrame) -> float:
    """The ε of the adversarial data, which the random control always has."""
    return float(table.loc[table["mode"] == "random", "epsilon"].iloc[0])


def _heat(axes: Axes, cells: pd.DataFrame) -> AxesImage:
    values = cells.to_numpy(np.float64)
    shown = axes.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        if np.isfinite(value):
            ink = "white" if value < DARK else "black"
            axes.text(x, y, f"{100 * value:.1f}", ha="center", va="center", color=ink, fontsize=10)
            if cells.index[y] != cells.columns[x] or cells.index[y] == TARGET:
                continue
            axes.add_patch(Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, fill=False, edgecolor=ink, linewidth=1.8))
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(False)
    return shown


def _headlines(table: pd.DataFrame) -> list[str]:
    """How robust networks seem by images made against the target, and are by attacks on themselves."""
    white = table[table["mode"] == "white-box"].sort_values("robust_accuracy", kind="stable").drop_duplicates("defence")
    white, robust, sentences = white.set_index("defence"), table[table["defence"] != TARGET], []
    transfer = robust[robust["mode"] == "transfer"]
    if len(transfer):
        best = transfer.loc[transfer["robust_accuracy"].idxmax()]
        who = f"trained on {SYSTEMS[best['defence']]}, attacked by {SYSTEMS[best['attack']]}"
        sentences.append(f"Best against transferred images: {_rate(best)} ({who}).")
    if len(white):
        name = white["robust_accuracy"].idxmax()
        who = SYSTEMS[name] if name == TARGET else f"trained on {SYSTEMS[name]}"
        sentences.append(
            f"Best under the white-box attack that hits each network hardest: {_white(white, name)}, {who}."
        )
    for name, rows in robust.groupby("defence", sort=False):
        own = rows[(rows["attack"] == name) & rows["mode"].isin(OWN)].set_index("mode")
        said = [f"{_rate(row)} {OWN[str(mode)]}" for mode, row in own.iterrows()]
        said += [f"{_white(white, str(name))} on itself"] * (name in white.index)
        sentences += [f"Trained on {SYSTEMS[str(name)]}: {', '.join(said)}."] * bool(said)
    return sentences


def _white(white: pd.DataFrame, name: str) -> str:
    return f"{_rate(white.loc[name])} under {SYSTEMS[white.loc[name, 'attack']]}"


def _rate(row: pd.Series) -> str:
    value, *ends = (row[f"robust_accuracy{end}"] for end in ("", "_low", "_high", "_seed_low", "_seed_high"))
    low, high, *seeds = (f"{end:.1%}" for end in ends)
    return f"{value:.1%} [{low}, {high}" + (f"; seeds {' to '.join(seeds)}]" if row["seeds"] > 1 else "]")


def _intervals(table: pd.DataFrame, confidence: float) -> str:
    several = "; seeds: Student's t over repetitions" if table["seeds"].max() > 1 else ""
    return f"{confidence:.0%} Clopper–Pearson intervals over test images, one at a time{several}."


def _seeds(table: pd.DataFrame) -> str:
    count = table["seeds"].max()
    return f"{count} repetitions" if count > 1 else "one repetition"


def _share(right: np.ndarray, confidence: float) -> str:
    low, high = clopper_pearson(int(right.sum()), len(right), confidence)
    return f"{right.mean():.1%} [{low:.1%}, {high:.1%}]"
