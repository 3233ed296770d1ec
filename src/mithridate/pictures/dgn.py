"""The pictures of adversarial data: who is robust against whom, and what attacks and their generators look like."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from mithridate.adversarial.examples import LIKENESS, Examples
from mithridate.adversarial.table import TARGET
from mithridate.certify.intervals import clopper_pearson
from mithridate.options.dgn_runs import FAILED
from mithridate.pictures.style import LINES, Figure, image_pairs, plt

SHOWN = 10  # example images; classes whose losses have a line of their own
WIDE, HIGH = 0.84, 0.46  # inches of a cell
DARK = 0.42  # accuracy below which the colour map wants white text
WRONG = "#D55E00"
CLASSES = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#555555"]
COLOURS = {"none": "#555555", "lrp": "#0072B2", "nce": "#D55E00"}
COLOURS |= {"suspiciousness": "#009E73", "fgsm": "#E69F00", "pgd": "#CC79A7"}
NAMES = {"none": "no defence", "lrp": "LRP", "nce": "NCE", "suspiciousness": "suspiciousness"}
NAMES |= {"fgsm": "FGSM", "pgd": "PGD", "autoattack": "AutoAttack"}
HEADS = NAMES | {"none": "clean", "random": "random\n±ε", "suspiciousness": "Susp.", "autoattack": "Auto-\nAttack"}
GROUPS = {"clean": "", "transfer": "transferred", "wrong-class": "wrong class", "random": "", "white-box": "white-box"}
CURVE = ["epsilon", "robust_accuracy", "robust_accuracy_low", "robust_accuracy_high"]
OWN = {"transfer": "on its own kind of transferred images", "wrong-class": "with the wrong class's generators"}
LOSSES = {
    "lrp": "squared distance from the original with relevant pixels darker, and others brighter, by ε",
    "nce": "mean squared change minus the target's cross-entropy, with no lower bound",
    "suspiciousness": "what suspicious units lose in activation, how far others move, and the mean squared change",
}


def matrix(table: pd.DataFrame, confidence: float) -> tuple[Figure, str]:
    """Robust accuracy of every network (row) under every attack at the full ε (column). table: see
    adversarial.table.tabulate."""
    epsilon = table.loc[table["mode"] == "random", "epsilon"].iloc[0]
    table = table[(table["mode"] != "white-box") | np.isclose(table["epsilon"], epsilon)]
    groups = {mode: rows for mode in GROUPS if len(rows := table[table["mode"] == mode])}
    defences, widths = list(table["defence"].unique()), [rows["attack"].nunique() for rows in groups.values()]
    size = 1.7 + WIDE * sum(widths) + 0.25 * len(widths), 1.55 + HIGH * len(defences)
    apart = {"width_ratios": widths, "wspace": 0.07}
    figure, grid = plt.subplots(1, len(groups), figsize=size, gridspec_kw=apart, sharey=True, squeeze=False)
    failed = set(table.loc[table["note"].astype(str).str.contains(FAILED), "attack"])
    for axes, (mode, rows) in zip(grid[0], groups.items(), strict=True):
        attacks = list(rows["attack"].unique())
        cells = rows.pivot(index="defence", columns="attack", values="robust_accuracy")
        shown = _heat(axes, cells.reindex(index=defences, columns=attacks))
        weak = [mode == "transfer" and name in failed for name in attacks]
        axes.set_xticks(range(len(attacks)), [HEADS[name] + " †" * w for name, w in zip(attacks, weak, strict=True)])
        axes.tick_params(axis="x", labelsize=9)
        for label, flag in zip(axes.get_xticklabels(), weak, strict=True):
            label.set_color(WRONG if flag else "black")
        axes.set_title(GROUPS[mode], fontsize=10, fontweight="bold", y=1, pad=32)
    grid[0, 0].set_yticks(range(len(defences)), [NAMES[name] for name in defences])
    grid[0, 0].set_ylabel("defence: training on")
    bar = figure.colorbar(shown, ax=grid, pad=0.01, aspect=25, ticks=[0, 0.5, 1], format="{x:.0%}")
    bar.ax.tick_params(labelsize=9)
    below = ["frame: the attack that the network was trained on"]
    below += [f"† {FAILED}: it leaves the undefended target more than half of its accuracy"] * bool(failed)
    figure.supxlabel("      ".join(below), fontsize=9)
    opening = (
        "Percentage of test images that each network (row) gets right under each attack (column) within"
        f" ε = {epsilon:g}, over {_counts(table)}. transferred: images made against the undefended target; wrong class:"
        " by the generator of another class than the true one, which misleads a network that has only learned to tell"
        " generators apart; random: every pixel moved by +ε or −ε; white-box: the network itself is attacked."
    )
    closing = "White-box accuracy bounds robustness from above: a better attack may leave less."
    return figure, " ".join([opening, *_headlines(table), closing, f"Brackets: {_intervals(table, confidence)}"])


def curves(table: pd.DataFrame, confidence: float) -> tuple[Figure, str]:
    """Robust accuracy of every network under white-box PGD against ε. table: see adversarial.table.tabulate."""
    pgd = (table["mode"] == "white-box") & (table["attack"] == "pgd") & (table["epsilon"] > 0)
    table = table[pgd | (table["mode"] == "clean")].sort_values("epsilon", kind="stable")
    figure, axes = plt.subplots(figsize=(7.2, 4.8))
    sentences = []
    for number, name in enumerate(name for name in COLOURS if name in set(table["defence"])):
        rows, style = table[table["defence"] == name], f"o{LINES[number % len(LINES)]}"
        radii, accuracy, low, high = (rows[column] for column in CURVE)
        axes.plot(radii, accuracy, style, color=COLOURS[name], label=NAMES[name], markersize=4)
        axes.fill_between(radii, low, high, color=COLOURS[name], alpha=0.13, linewidth=0)
        each = [f"{value:.1%}" for value in accuracy[:-1]] + [_rate(rows.iloc[-1])]
        sentences.append(f"{NAMES[name]} {', '.join(each)}")
    axes.set(
        xlabel="ε, the largest change of a pixel", ylabel="robust accuracy under white-box PGD", ylim=(-0.02, 1.02)
    )
    figure.legend(*axes.get_legend_handles_labels(), title="training on", loc="outside right upper", fontsize=9)
    known = ", ".join(f"{radius:g}" for radius in table["epsilon"].unique()[1:])
    opening = (
        "Share of test images that a network gets right when PGD attacks it, with true labels: at ε = 0 (clean),"
        f" {known}, over {_counts(table)} –"
        if known
        else f"This run has no white-box PGD, hence only the accuracy on clean images, over {_counts(table)} –"
    )
    closing = "Accuracy under an attack bounds robustness from above: a better attack may leave less."
    return figure, " ".join([opening, f"{'; '.join(sentences)}.", closing, f"Bands: {_intervals(table, confidence)}"])


def examples(
    originals: np.ndarray,
    said: np.ndarray,
    made: Examples,
    answers: np.ndarray,
    names: Sequence[str],
    confidence: float,
) -> tuple[Figure, str]:
    """Some adversarial images beside their originals [n,C,H,W] in [0, 1]. said and answers: classes int64 that the
    target takes originals [n] and adversarial images [m] for; names: of the classes."""
    labels, said, chosen = made.labels, said[made.rows], shown_examples(made.labels)
    before, after = originals[made.rows[chosen]], made.images[chosen]
    reach = max(made.epsilon if made.bounded else float(np.abs(after - before).max()), 1e-6)
    figure = image_pairs(before, after, ("original", "adversarial"), reach)
    figure.set_layout_engine("constrained", h_pad=0.08)  # room for what stands above
    grid, count = figure.axes, len(chosen)
    for number, axes in enumerate(grid[: 2 * count]):
        place, answer = chosen[number % count], (said if number < count else answers)[chosen[number % count]]
        look: dict[str, Any] = {} if answer == labels[place] else {"color": WRONG, "fontweight": "bold"}
        axes.set_title(f"target: {names[answer]:.12}", fontsize=8, pad=3, **look)
        if number < count:
            where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center"}
            axes.annotate(f"class {names[labels[place]]:.12}", (0.5, 1), (0, 14), fontsize=8, **where)
    bar = figure.colorbar(grid[-1].images[0], ax=grid, ticks=[-reach, 0, reach], shrink=0.3, anchor=(0, 0), pad=0.01)
    end = "ε" if made.bounded else f"{reach:.2g}"
    bar.ax.set_yticklabels([f"−{end}", "0", end])
    likeness = [f"{name} {made.likeness[key]:.3g}" for name, key in zip(("L∞", "L2", "SSIM"), LIKENESS, strict=True)]
    opening = (
        f"The first test images of {len(set(labels[chosen]))} classes, what {NAMES[made.attack]} makes of them"
        f" {'within' if made.bounded else 'without keeping to'} ε = {made.epsilon:g}, and the difference"
        f"{', averaged over colours' if before.shape[1] > 1 else ''}; above each what the undefended target says,"
        f" orange and bold where that is wrong. Over all {len(labels)} images the target is right on"
        f" {_share(said == labels, confidence)} of the originals and {_share(answers == labels, confidence)} of the"
        f" adversarial images ({confidence:.0%} Clopper–Pearson intervals)"
    )
    by_class = _ends(pd.Series(answers == labels).groupby(labels).mean(), ".1%", names)
    using = f"The true class was {'' if made.true_label else 'not '}used in making them."
    return figure, f"{opening}, by class {by_class}. Means over all images: {', '.join(likeness)}. {using}"


def shown_examples(labels: np.ndarray) -> np.ndarray:
    """Positions of up to SHOWN images, sorted by class: the first of each class (or of evenly spaced ones, where there
    are more), then the second ones, and so on."""
    found = np.unique(labels)
    found = found[np.linspace(0, len(found) - 1, min(SHOWN, len(found))).round().astype(np.int64)]
    places = np.flatnonzero(np.isin(labels, found))
    rank = pd.Series(labels[places]).groupby(labels[places]).cumcount()
    chosen = places[np.lexsort((labels[places], rank))[:SHOWN]]
    return chosen[np.lexsort((chosen, labels[chosen]))]


def losses(history: pd.DataFrame, loss: str, names: Sequence[str]) -> tuple[Figure, str]:
    """The loss of each class's generator against the step. history: class, step, loss; names: of the classes."""
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    classes, step = history["class"].unique(), history["step"].max()
    few = len(classes) <= SHOWN
    for number, c in enumerate(classes):
        rows, line = history[history["class"] == c], LINES[number // len(CLASSES) % len(LINES)] if few else "-"
        look = {"color": CLASSES[number % len(CLASSES)]} if few else {"color": CLASSES[0], "alpha": 0.3}
        axes.plot(rows["step"], rows["loss"], line, label=names[c], **look)
    axes.set(xlabel="step", ylabel=f"{NAMES[loss]} loss of a generator")
    if few:
        figure.legend(*axes.get_legend_handles_labels(), title="class", loc="outside right upper", fontsize=9)
    first, last = (history[history["step"] == at].set_index("class")["loss"] for at in (0, step))
    return figure, (
        f"Loss of {len(classes)} generators, one per class, on batches of their own class: {LOSSES[loss]}. Mean over"
        f" classes {first.mean():.4g} at the first step and {last.mean():.4g} at the last, number {step + 1}, there"
        f" {_ends(last, '.4g', names)}. Losses of different systems are on different scales."
    )


def _heat(axes: Axes, cells: pd.DataFrame) -> AxesImage:
    values = cells.to_numpy(np.float64)
    # Nothing is clipped: the names of clipping areas follow from the last bits of a layout that varies in them.
    shown = axes.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto", clip_on=False)
    for (y, x), value in np.ndenumerate(values):
        ink = "white" if value < DARK else "black"
        axes.text(x, y, f"{100 * value:.1f}", ha="center", va="center", color=ink, fontsize=10)
        if cells.index[y] == cells.columns[x] != TARGET:
            frame = Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, fill=False, edgecolor=ink, linewidth=1.8, clip_on=False)
            axes.add_patch(frame)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(False)
    return shown


def _headlines(table: pd.DataFrame) -> list[str]:
    """How robust networks seem by images made against the target, and are when they are attacked themselves."""
    ordered = table.sort_values("robust_accuracy", kind="stable")
    hardest = ordered[ordered["mode"] == "white-box"].drop_duplicates("defence")
    failed = ordered["note"].astype(str).str.contains(FAILED)
    aside = ", failed attacks aside" if failed.any() else ""
    found = {
        f"Best of a robust network on transferred images{aside}": ordered[(ordered["mode"] == "transfer") & ~failed],
        "best of one under the white-box attack that hits it hardest": hardest,
    }
    robust = {what: rows[rows["defence"] != TARGET] for what, rows in found.items()}
    best = [f"{what}: {_rate(rows.iloc[-1], True)}" for what, rows in robust.items() if len(rows)]
    sentences = [f"{'; '.join(best)}."] * bool(best)
    for name, rows in table.groupby("defence", sort=False):
        own = rows[(rows["attack"] == name) & rows["mode"].isin(list(OWN))]
        said = [f"{_rate(row)} {OWN[row['mode']]}" for _, row in own.iterrows()]
        last = hardest[hardest["defence"] == name]
        said += [f"{_rate(row)} under {NAMES[row['attack']]} on itself" for _, row in last.iterrows()]
        sentences.append(f"{NAMES[str(name)]}: {', '.join([f'{_rate(rows.iloc[0])} clean', *said])}.")
    return sentences


def _rate(row: pd.Series, named: bool = False) -> str:
    value, *ends = (row[f"robust_accuracy{end}"] for end in ("", "_low", "_high", "_seed_low", "_seed_high"))
    low, high, *seeds = (f"{end:.1%}" for end in ends)
    rate = f"{value:.1%} [{low}, {high}" + (f"; seeds {' to '.join(seeds)}]" if row["seeds"] > 1 else "]")
    return f"{rate} ({NAMES[row['defence']]}, attacked by {NAMES[row['attack']]})" if named else rate


def _counts(table: pd.DataFrame) -> str:
    sizes, seeds = table.groupby("mode")["n"].first(), table["seeds"].max()
    fewer = sizes.get("white-box", sizes["clean"]) < sizes["clean"]
    attacked = f" ({sizes['white-box']} of them for white-box attacks)" if fewer else ""
    return f"{sizes['clean']} test images{attacked} and {seeds} repetition{'s' if seeds > 1 else ''}"


def _intervals(table: pd.DataFrame, confidence: float) -> str:
    several = "; seeds: Student's t over repetitions" if table["seeds"].max() > 1 else ""
    return f"{confidence:.0%} Clopper–Pearson intervals over test images, each by itself{several}."


def _share(right: np.ndarray, confidence: float) -> str:
    low, high = clopper_pearson(int(right.sum()), len(right), confidence)
    return f"{right.mean():.1%} [{low:.1%}, {high:.1%}]"


def _ends(values: pd.Series, form: str, names: Sequence[str]) -> str:
    """The least and the greatest value of a class."""
    if values.nunique() == 1:
        return f"{values.iloc[0]:{form}} each"
    values = values.sort_values(kind="stable")
    low, high = (f"{value:{form}} (class {names[int(str(c))]})" for c, value in values.iloc[[0, -1]].items())
    return f"from {low} to {high}"
