"""The pictures of BadNet repair: how far pruning goes, what STRIP sees, what repaired networks say, all defences."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mithridate.certify.intervals import clopper_pearson
from mithridate.errors import InputError
from mithridate.options.badnet import StripOptions
from mithridate.pictures.style import COLOURS, LINES, NAMES, Figure, plt
from mithridate.repair.judging import SUSPICIOUS, Judged
from mithridate.repair.pruning import stop_step
from mithridate.repair.table import Defence

SHOWN = 4  # example images of a file
BINS = 50  # of a histogram of entropies
TRIGGERS = ["#D55E00", "#E69F00", "#CC79A7", "#009E73", "#56B4E9"]
MARKS = "oXsDv^P"
WIDE, HIGH = 6.35, 3.55  # inches that the examples of one file take
SIDE, PITCH = 1.25, 1.5  # inches of an example, and from one to the next
ABOVE: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}

Files = Mapping[str, Judged]  # by name: clean tests, or triggered images
Examples = Mapping[str, tuple[np.ndarray, np.ndarray]]  # by file: rows int64 [n], and those images [n,C,H,W] in [0, 1]


def pruning(curve: pd.DataFrame, tests: Files, triggered: Files, tau: float) -> tuple[Figure, str]:
    """Accuracy on the held-out images that decide how much is pruned, and what becomes of files' images meanwhile.
    curve: see Pruner.curve, or prune_weight_range, during which no file is judged."""
    rounds, accuracy = "round" in curve, curve["clean_accuracy"].to_numpy()
    steps, stop = np.arange(len(curve)), len(curve) - 1 if rounds else stop_step(curve, tau)
    lines = [("clean accuracy: held-out images", accuracy, COLOURS["single"], "o-" if rounds else "-")]
    for kind, name, one, colour, style in _files(tests, triggered):
        if len(one.curve):
            what = {"clean": "clean accuracy", "triggered": "attack success"}[kind]
            lines.append((f"{what}: {name}", one.curve, colour, style))
    figure, axes = plt.subplots(figsize=(7.2, 5))
    for label, values, colour, style in lines:
        axes.plot(steps, values, style, color=colour, label=label)
    axes.set(xlabel="pruned channels", ylabel="share of images", ylim=(-0.02, 1.02))
    if rounds:
        axes.set(xlabel="rounds of pruning and fine-tuning", xticks=steps)
        what = (
            f"Weight-range pruning, {stop} rounds; it ends early once {tau:g} points of clean accuracy are lost on the"
        )
        what += " overlay part of the held-out images. Meanwhile –"
    else:
        ended = f"{stop} of {steps[-1]} channels"
        axes.axvline(stop, color="black", linestyle=":", label=f"pruning stopped: {ended}")
        what = f"Pruning stopped at {ended}, the first at which {tau:g} points of clean accuracy are lost on the"
        what += " fine-tuning part of the held-out images, which alone decides. Meanwhile –"
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    changes = "; ".join(f"{label} {values[0]:.1%} → {values[stop]:.1%}" for label, values, *_ in lines)
    return figure, " ".join([what, f"{changes}.", *_missing(tests, triggered)])


def statistic(
    calibration: np.ndarray, boundary: float, options: StripOptions, tests: Files, triggered: Files, confidence: float
) -> tuple[Figure, str]:
    """Histograms of STRIP's statistic for calibration images [m] and every file, with the boundary."""
    counts, laid = options.statistic == "labels", f"predictions under {options.overlays} overlays"
    what = f"number of distinct {laid}" if counts else f"mean entropy (bits) of {laid}"
    rows = [("clean calibration images", calibration, COLOURS["single"])]
    rows += [(f"{kind}: {name}", one.statistic[_used(one)], c) for kind, name, one, c, _ in _files(tests, triggered)]
    top = max(float(values.max()) for _, values, _ in rows)
    edges = np.arange(0.5, top + 1) if counts else np.linspace(0, max(1.02 * top, 1e-3), BINS + 1)
    line = boundary + 0.5 * counts  # between two numbers
    figure, grid = plt.subplots(len(rows), figsize=(7.2, 1.3 + 1.25 * len(rows)), sharex=True, squeeze=False)
    for axes, (title, values, colour) in zip(grid[:, 0], rows, strict=True):
        axes.hist(values, edges, weights=np.full(len(values), 1 / len(values)), color=colour, histtype="stepfilled")
        flagged = f"flagged: {(values <= boundary).mean():.1%} of {len(values)}"
        axes.set_title(f"{title} – {flagged}", fontsize=10, loc="left")
        axes.locator_params(axis="y", nbins=3)
        axes.set_xlim(edges[0], edges[-1])
        if np.isfinite(line):
            axes.axvspan(edges[0], line, color="black", alpha=0.08, linewidth=0, zorder=0)
            axes.axvline(line, color="black", linestyle="--", linewidth=1.2, label=f"boundary: {boundary:.4g}")
    axes.set_xlabel(what)
    axes.locator_params(axis="x", integer=counts)
    figure.supylabel("share of images", fontsize=11)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", fontsize=9)
    below = f"At or below the boundary {boundary:.4g} (shaded) it is flagged."
    sentences = [
        f"STRIP's statistic of each image: the {what}.",
        below if np.isfinite(line) else "Ties leave no boundary, so that no image is flagged.",
        f"Calibration ({options.boundary}) on {len(calibration)} clean images, for a false rejection rate of"
        f" {options.frr:.3g}: {(calibration <= boundary).sum()} flagged.",
    ]
    for kind, files in {
        "clean images (false rejections)": tests,
        "triggered images of other classes": triggered,
    }.items():
        if files:
            found = (f"{name} {_interval(one.flagged[_used(one)], confidence)}" for name, one in files.items())
            sentences.append(f"Flagged of {kind}, with {confidence:.0%} Clopper–Pearson intervals: {'; '.join(found)}.")
    return figure, " ".join([*sentences, *_missing(tests, triggered)])


def shown_rows(tests: Files, triggered: Files, paired: bool) -> dict[str, np.ndarray]:
    """Evenly spaced images of each file, int64 [up to SHOWN], none of its target's own class where that is known.
    paired: all files hold the same images in the same order; the same are taken, of no target's class."""
    targets = np.array([target for one in triggered.values() for target in np.unique(one.labels)])
    rows = {}
    for name, one in {**tests, **triggered}.items():
        true = one.labels if one.true_labels is None else one.true_labels
        found = np.flatnonzero(~np.isin(true, targets) if paired else _used(one))
        found = found if len(found) else np.arange(len(true))
        rows[name] = found[np.linspace(0, len(found) - 1, min(SHOWN, len(found))).round().astype(np.int64)]
    return rows


def answers(
    delivered: Defence, tests: Files, triggered: Files, examples: Examples, overlays: np.ndarray, options: StripOptions
) -> tuple[Figure, str]:
    """What the suspicious and the delivered network say of some images of each file, and below each what STRIP sees
    under one of its overlays [M,C,H,W], uint8 or float32 in [0, 1]."""
    count = len(tests) + len(triggered)
    across, down = min(2, max(1, count)), max(1, -(-count // 2))
    figure = plt.figure(figsize=(across * WIDE, down * HIGH if count else 1), layout="none")
    if not count:
        figure.text(0.5, 0.5, "no image to show", ha="center", va="center")
    laid = overlays[np.linspace(0, len(overlays) - 1, SHOWN).round().astype(np.int64)]
    laid = laid / np.float32(255) if laid.dtype == np.uint8 else laid
    sentences = ["Over all images of each file –"] if count else []
    for number, (kind, name, one, *_) in enumerate(_files(tests, triggered)):
        said, clean = delivered.outputs(one), kind == "clean"
        true = one.labels if clean else one.true_labels
        for column, (row, image) in enumerate(zip(*examples[name], strict=True)):
            x, top = 0.35 + WIDE * (number % 2) + PITCH * column, HIGH * (down - number // 2)
            axes = _show(figure, image, x, top - 2.1)
            beneath = _show(figure, composite(image, laid[column], options), x, top - 3.45)
            if not column:
                axes.annotate(f"{kind}: {name}", (0, 1), (0, 34), **ABOVE, fontsize=11, fontweight="bold")
                axes.set_ylabel("as it is", fontsize=9)
                beneath.set_ylabel("with an overlay", fontsize=9)
            known = "" if true is None else f"class {true[row]}, "
            net = f"{known}net: {one.classes[SUSPICIOUS][row]}"
            axes.annotate(net, (0.5, 1), (0, 18), **ABOVE, ha="center", fontsize=8)
            answer = f"GoodNet: {'backdoored' if said[row] == one.num_classes else said[row]}"
            bad = (said[row] != one.labels[row]) == clean
            style: dict[str, Any] = {"color": TRIGGERS[0], "fontweight": "bold"} if bad else {}
            axes.annotate(answer, (0.5, 1), (0, 5), **ABOVE, ha="center", fontsize=8, **style)
        sentences.append(_summary(name, one, said, clean))
    opening = (
        f"What the delivered GoodNet says (rule {delivered.rule}, repaired by {NAMES[delivered.repair]}), and what the"
        " suspicious network (net) does; below each image it under one of STRIP's overlays. Bold and orange: wrong on"
        " clean images, the attacker's target on triggered ones."
    )
    return figure, " ".join([opening, *sentences, *_missing(tests, triggered)])


def composite(image: np.ndarray, overlay: np.ndarray, options: StripOptions) -> np.ndarray:
    """What STRIP shows the network of an image under an overlay; sums of statistic: labels may exceed 1."""
    total = image + overlay
    if options.statistic == "labels":
        return total
    return total / 2 if options.overlay == "convex" else np.minimum(total, 1)


def defences(table: pd.DataFrame, confidence: float) -> tuple[Figure, str]:
    """What every defence leaves of every attack, and its clean accuracy. table: see repair.table.tabulate."""
    table = table[table["rule"] != "agreement"].assign(trigger=table["trigger"].astype(object).fillna(""))
    table["place"] = table.groupby(["net", "trigger"], sort=False).ngroup()
    firsts, names = table.drop_duplicates("place"), list(table["defence"].unique())
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.8, 1.3 + 0.95 * len(firsts)), sharey=True)
    for axes, share in ((left, "asr"), (right, "clean_accuracy")):
        for number, name in enumerate(names):
            rows = table[table["defence"] == name]
            reach = [(rows[share] - rows[f"{share}_low"]).clip(0), (rows[f"{share}_high"] - rows[share]).clip(0)]
            axes.errorbar(
                rows[share], rows["place"] + 0.78 * ((number + 0.5) / len(names) - 0.5), xerr=reach, capsize=2,
                fmt=MARKS[number % len(MARKS)], markersize=5.5, color=COLOURS[name], label=NAMES[name],
            )  # fmt: skip
        for place in firsts.loc[firsts[share].isna(), "place"]:
            axes.text(0.5, place, "no images", transform=axes.get_yaxis_transform(), ha="center", va="center")
        for place in range(0, len(firsts), 2):
            axes.axhspan(place - 0.5, place + 0.5, color="black", alpha=0.05, linewidth=0)
        axes.tick_params(axis="y", length=0, grid_alpha=0)
    twin, places = firsts["twin_clean_accuracy"], firsts["place"]
    known = "clean twin" if twin.notna().any() else ""
    right.vlines(twin, places - 0.46, places + 0.46, color="black", linestyle="--", linewidth=1.2, label=known)
    targets = ["" if pd.isna(target) else f", target {target:g}" for target in firsts["target"]]
    left.set_yticks(places, firsts["net"] + "\n" + firsts["trigger"] + targets, fontsize=9)
    left.set(xlabel="attack success rate", xlim=(-0.03, 1.03), ylim=(len(firsts) - 0.5, -0.5))
    lowest = np.nan_to_num(table[["clean_accuracy_low", "twin_clean_accuracy"]].min().min())
    right.set(xlabel="clean accuracy", xlim=(np.floor(20 * lowest) / 20 - 0.01, 1.01))
    figure.legend(*right.get_legend_handles_labels(), loc="outside upper center", ncols=len(names) + 1, fontsize=9)
    table["pair"] = table["net"] + table["trigger"].map(lambda trigger: trigger and f", {trigger}")
    attacks = [f"{pair}: {_each(rows, 'asr')}." for pair, rows in table.groupby("pair", sort=False)]
    cleans = [f"{net}: {_each(rows, 'clean_accuracy')}." for net, rows in table.groupby("net", sort=False)]
    opening = (
        "Left: share of triggered images of other classes that are taken for the target. Right: share of clean images"
        " that get their class; an answer of backdoored is wrong. combined: backdoored where STRIP says so, else the"
        f" repaired network's class. Bars: {confidence:.0%} Clopper–Pearson intervals over up to"
        f" {table['n_triggered'].max()} triggered and {table['n_clean'].max()} clean images. Attack success –"
    )
    return figure, " ".join([opening, *attacks, "Clean accuracy –", *cleans])


def _files(tests: Files, triggered: Files) -> Iterator[tuple[str, str, Judged, str, str]]:
    """Kind, name, judgement, colour and line of every file."""
    for number, (name, one) in enumerate(tests.items()):
        yield "clean", name, one, COLOURS["clean"], LINES[number % len(LINES)]
    for number, (name, one) in enumerate(triggered.items()):
        yield "triggered", name, one, TRIGGERS[number % len(TRIGGERS)], LINES[(number + 1) % len(LINES)]


def _used(judged: Judged) -> np.ndarray:
    """Which images an attack is measured on: where true classes are known, those of others than the target."""
    used = np.ones(len(judged.labels), bool) if judged.true_labels is None else judged.true_labels != judged.labels
    if not used.any():
        raise InputError("a file of triggered images has none of another class than its target: give such images.")
    return used


def _interval(hits: np.ndarray, confidence: float) -> str:
    low, high = clopper_pearson(int(hits.sum()), len(hits), confidence)
    return f"{hits.mean():.1%} [{low:.1%}, {high:.1%}] of {len(hits)}"


def _summary(name: str, judged: Judged, said: np.ndarray, clean: bool) -> str:
    true, used = judged.labels if clean else judged.true_labels, _used(judged)
    hits = {} if clean else {"the target": said == judged.labels}
    hits |= ({} if true is None else {"right": said == true}) | {"backdoored": said == judged.num_classes}
    return f"{name}: {', '.join(f'{hit[used].mean():.1%} {what}' for what, hit in hits.items())} of {used.sum()}."


def _show(figure: Figure, image: np.ndarray, left: float, bottom: float) -> Axes:
    """An image [C,H,W] in axes of their own, at a place in inches."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, bottom / height, SIDE / width, SIDE / height), xticks=[], yticks=[])
    pixels = np.clip(image.transpose(1, 2, 0), 0, 1)
    axes.imshow(pixels if len(image) == 3 else pixels[:, :, 0], cmap="gray", vmin=0, vmax=1)
    axes.spines[:].set(visible=True, color="#999999")
    return axes


def _each(rows: pd.DataFrame, share: str) -> str:
    known, twin = rows.drop_duplicates("defence").dropna(subset=[share]), rows[f"twin_{share}"].iloc[0]
    found = [f"{NAMES[name]} {value:.1%}" for name, value in zip(known["defence"], known[share], strict=True)]
    return ", ".join(found + ([f"clean twin {twin:.1%}"] if np.isfinite(twin) else [])) or "no images"


def _missing(tests: Files, triggered: Files) -> list[str]:
    lacking = [f"no {kind}" for kind, files in (("clean test", tests), ("triggered", triggered)) if not files]
    return [f"There are {' and '.join(lacking)} images."] if lacking else []
