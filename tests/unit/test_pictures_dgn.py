"""The pictures of adversarial data and their captions say what the table and the files say."""

import io
import itertools
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from mithridate.adversarial.examples import make_examples
from mithridate.adversarial.table import tabulate
from mithridate.certify.intervals import clopper_pearson
from mithridate.options.dgn_runs import FAILED
from mithridate.pictures.dgn import (
    COLOURS,
    GROUPS,
    LOSSES,
    NAMES,
    SHOWN,
    WRONG,
    curves,
    examples,
    losses,
    matrix,
    shown_examples,
)
from mithridate.pictures.style import save
from mithridate.streams import Stream
from tests.unit.making import words_apart

N, CONFIDENCE = 200, 0.9
GENERATORS, GRADIENTS = ("lrp", "nce", "suspiciousness"), ("fgsm", "pgd")
WHITE, RADII = (*GRADIENTS, "autoattack"), (0.05, 0.1, 0.4)


@pytest.fixture(autouse=True, scope="module")
def _closed():
    yield
    plt.close("all")


@cache
def table(
    generators=GENERATORS, gradients=GRADIENTS, robust=None, white=WHITE, radii=RADII, epsilon=0.3, seeds=1, points=N
):
    """Made-up accuracies: a network holds out against images of its own kind alone, and nce fails."""
    runs = []
    for seed, defence in itertools.product(
        range(seeds), ["none", *((*generators, *gradients) if robust is None else robust)]
    ):
        rows = [("none", "clean", 0.0, 0.95, N)]
        rows += [
            (name, "transfer", epsilon, 0.9 if defence == name else 0.7 if name == "nce" else 0.3, N)
            for name in (*generators, *gradients)
        ]
        rows += [(name, "wrong-class", epsilon, 0.5, N) for name in generators] + [
            ("random", "random", epsilon, 0.85, N)
        ]
        rows += [(name, "white-box", epsilon, 0.05 / (1 + place), points) for place, name in enumerate(white)]
        rows += [("pgd", "white-box", radius, 0.9 - 2 * radius, points) for radius in radii]
        shift = 0.05 * Stream("dgn pictures", seed, defence).uniform(len(rows))
        own = pd.DataFrame(rows, columns=["attack", "mode", "epsilon", "share", "n"])
        own["right"] = ((own["share"] + shift).clip(0, 1) * own["n"]).astype(int)
        known = {"defence": defence, "true_label": own["mode"].isin(["transfer", "white-box"]), "seconds_per_1000": 1.0}
        known |= {"bounded": True, "as_generator": np.where(own["mode"] == "wrong-class", 0.1 * own["n"], np.nan)}
        runs.append(own.assign(**known, linf=0.3, l2=5.0, ssim=0.5))
    made = tabulate(runs, "digits28", CONFIDENCE)
    return pd.read_csv(io.StringIO(made.to_csv(index=False)), keep_default_na=False, na_values=[""])


def made_up(classes=10, shape=(1, 8, 8), attack="lrp", bounded=True, n=60, epsilon=0.3):
    """Originals and classes said of them, adversarial images and classes said of those, names."""
    originals = Stream("dgn originals").uniform(n, *shape).astype(np.float32)
    labels = Stream("dgn labels").permutations(1, n)[0] % classes
    moved = (epsilon if bounded else 0.8) * (2 * Stream("dgn moves").uniform(n, *shape) - 1)
    images = (originals + moved).clip(0, 1).astype(np.float32)
    how = {
        "attack": attack,
        "mode": "transfer",
        "epsilon": epsilon,
        "true_label": bounded,
        "bounded": bounded,
        "seconds": 1.0,
    }
    said, answers = labels.copy(), labels.copy()
    said[::5], answers[::2] = (labels[::5] + 1) % classes, (labels[::2] + 1) % classes
    names = [f"class name {c}" for c in range(classes)]
    return originals, said, make_examples(originals, labels, images, **how), answers, names, CONFIDENCE


def history(classes=10, steps=(0, 5, 10, 12)):
    values = -Stream("dgn history").uniform(classes, len(steps)).cumsum(1)
    rows = [(c, step, values[c, number]) for c in range(classes) for number, step in enumerate(steps)]
    return pd.DataFrame(rows, columns=["class", "step", "loss"])


PLAIN = {"whole": {}, "seeds": {"seeds": 3, "points": 50}}
ODD = {
    "one generator": {"generators": ("nce",), "gradients": ()},
    "gradients": {"generators": (), "gradients": ("pgd",)},
    "not robust": {"generators": (), "robust": ()},
    "no columns": {"generators": (), "gradients": (), "robust": ("pgd",)},
    "no white box": {"white": (), "radii": (), "epsilon": 0.0},
}
PICTURES = {
    **{f"matrix, {name}": lambda how=how: matrix(table(**how), CONFIDENCE) for name, how in (PLAIN | ODD).items()},
    "curves, whole": lambda: curves(table(), CONFIDENCE),
    "curves, seeds": lambda: curves(table(**PLAIN["seeds"]), CONFIDENCE),
    "curves, no white box": lambda: curves(table(**ODD["no white box"]), CONFIDENCE),
    "examples": lambda: examples(*made_up()),
    "examples, few": lambda: examples(*made_up(classes=2, shape=(3, 8, 8), attack="pgd", n=4, epsilon=0.0)),
    "examples, anywhere": lambda: examples(*made_up(classes=30, bounded=False)),
    "losses": lambda: losses(history(), "nce", [str(c) for c in range(10)]),
    "losses, many classes": lambda: losses(history(30), "nce", [f"name {c}" for c in range(30)]),
}  # fmt: skip


@cache
def drawn(name):
    return PICTURES[name]()


@pytest.mark.parametrize("name", PICTURES)
def test_no_words_overlap(name):
    figure, caption = drawn(name)
    figure.draw_without_rendering()
    words = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        words += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            words += [label for tick in ticks for label in (tick.label1, tick.label2)]
    words_apart(figure, words)
    assert caption.endswith(".")
    assert "nan" not in caption
    assert "  " not in caption


@pytest.mark.parametrize("name", ["matrix, gradients", "curves, whole", "losses"])
def test_equal_results_give_equal_bytes(tmp_path, name):
    for number in (1, 2):
        save(PICTURES[name](), tmp_path / f"{number}.svg", tmp_path / f"{number}.rst")
    assert (tmp_path / "1.svg").read_bytes() == (tmp_path / "2.svg").read_bytes()
    assert ElementTree.parse(tmp_path / "1.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert (tmp_path / "1.rst").read_text().count("\n") == 1


def of(rows, **where):
    """The one row of a table that fits."""
    for column, value in where.items():
        rows = rows[rows[column] == value]
    (found,) = rows.to_dict("records")
    return found


def rate(row):
    value, low, high = (row[f"robust_accuracy{end}"] for end in ("", "_low", "_high"))
    return f"{value:.1%} [{low:.1%}, {high:.1%}]"


def test_the_matrix_is_that_of_the_table():
    figure, _ = drawn("matrix, whole")
    rows = table()
    rows = rows[(rows["mode"] != "white-box") | (rows["epsilon"] == 0.3)]
    defences = list(rows["defence"].unique())
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [NAMES[name] for name in defences]
    for axes, (mode, title) in zip(figure.axes[:5], GROUPS.items(), strict=True):
        assert axes.get_title() == title
        attacks = list(rows.loc[rows["mode"] == mode, "attack"].unique())
        cells = axes.images[0].get_array()
        assert cells.shape == (len(defences), len(attacks))
        texts = iter(text.get_text() for text in axes.texts)
        framed = {tuple(np.add(patch.get_xy(), (0.47, 0.45)).round(6)) for patch in axes.patches}
        own = set()
        for (y, defence), (x, attack) in itertools.product(enumerate(defences), enumerate(attacks)):
            value = of(rows, defence=defence, attack=attack, mode=mode)["robust_accuracy"]
            assert cells[y, x] == value
            assert next(texts) == f"{100 * value:.1f}"
            own |= {(x, y)} if defence == attack != "none" else set()
        assert framed == own


def test_columns_of_failed_attacks_are_marked():
    for name, how in PLAIN.items():
        rows = table(**how)
        assert set(rows.loc[rows["note"] == FAILED, "attack"]) == {"nce"}
        figure, _ = drawn(f"matrix, {name}")
        marked = [
            [label.get_text() for label in axes.get_xticklabels() if "†" in label.get_text()] for axes in figure.axes
        ]
        assert marked[:5] == [[], ["NCE †"], [], [], []]
        assert FAILED in figure.get_supxlabel()
    assert FAILED not in drawn("matrix, gradients")[0].get_supxlabel()


def test_the_matrix_caption_sets_transfer_against_white_box():
    rows, (_, caption) = table(), drawn("matrix, whole")
    robust = rows[rows["defence"] != "none"]
    worked = robust[(robust["mode"] == "transfer") & (robust["attack"] != "nce")]
    best = worked.sort_values("robust_accuracy").iloc[-1]
    assert (
        f"on transferred images, failed attacks aside: {rate(best)} ({NAMES[best['defence']]}, attacked by {NAMES[best['attack']]})"
        in caption
    )
    white = rows[(rows["mode"] == "white-box") & (rows["epsilon"] == 0.3)]
    least = white.loc[white.groupby("defence")["robust_accuracy"].idxmin()].set_index("defence", drop=False)
    best = least.drop(index="none").sort_values("robust_accuracy").iloc[-1]
    assert (
        f"that hits it hardest: {rate(best)} ({NAMES[best['defence']]}, attacked by {NAMES[best['attack']]})."
        in caption
    )
    for name in ("none", *GENERATORS, *GRADIENTS):
        said = [f"{rate(of(rows, defence=name, mode='clean'))} clean"]
        if name != "none":
            said.append(
                f"{rate(of(rows, defence=name, attack=name, mode='transfer'))} on its own kind of transferred images"
            )
        if name in GENERATORS:
            said.append(
                f"{rate(of(rows, defence=name, attack=name, mode='wrong-class'))} with the wrong class's generators"
            )
        said.append(f"{rate(least.loc[name])} under {NAMES[least.loc[name, 'attack']]} on itself")
        assert f"{NAMES[name]}: {', '.join(said)}." in caption
    assert f"over {N} test images and 1 repetition." in caption
    assert "Brackets: 90% Clopper–Pearson intervals over test images, each by itself." in caption


def test_several_seeds_have_an_interval_of_their_own():
    rows = table(**PLAIN["seeds"])
    for name in ("matrix", "curves"):
        caption = drawn(f"{name}, seeds")[1]
        assert f"over {N} test images (50 of them for white-box attacks) and 3 repetitions" in caption
        assert "each by itself; seeds: Student's t over repetitions." in caption
    row = of(rows, defence="lrp", mode="clean")
    spread = f"{row['robust_accuracy_seed_low']:.1%} to {row['robust_accuracy_seed_high']:.1%}"
    assert f"LRP: {rate(row)[:-1]}; seeds {spread}] clean" in drawn("matrix, seeds")[1]


def test_what_a_run_lacks_is_left_out():
    assert "robust network" not in drawn("matrix, not robust")[1]
    assert "no defence: " in drawn("matrix, not robust")[1]
    assert "under" not in drawn("matrix, no white box")[1].split("Best of")[1].split("White-box")[0]
    assert "on transferred images:" not in drawn("matrix, no columns")[1]
    assert drawn("curves, no white box")[1].startswith(
        "This run has no white-box PGD, hence only the accuracy on clean"
    )
    assert len(drawn("matrix, gradients")[0].axes) == 5  # no wrong class, and the bar


def test_curves_are_those_of_the_table():
    figure, caption = drawn("curves, whole")
    rows = table()
    rows = rows[(rows["mode"] == "clean") | ((rows["mode"] == "white-box") & (rows["attack"] == "pgd"))]
    (axes,) = figure.axes
    assert len(axes.lines) == len(COLOURS)
    for (name, colour), line, band in zip(COLOURS.items(), axes.lines, axes.collections, strict=True):
        own = rows[rows["defence"] == name].sort_values("epsilon")
        assert own["epsilon"].tolist() == [0, 0.05, 0.1, 0.3, 0.4]
        np.testing.assert_array_equal(line.get_xydata(), own[["epsilon", "robust_accuracy"]])
        assert (line.get_label(), line.get_color()) == (NAMES[name], colour)
        corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
        for end in ("low", "high"):
            assert set(map(tuple, own[["epsilon", f"robust_accuracy_{end}"]].to_numpy())) <= corners
        each = [f"{value:.1%}" for value in own["robust_accuracy"][:-1]] + [rate(own.iloc[-1])]
        assert f"{NAMES[name]} {', '.join(each)}" in caption
    assert "at ε = 0 (clean), 0.05, 0.1, 0.3, 0.4, over" in caption


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 30])
@pytest.mark.parametrize("n", [1, 7, 90])
def test_one_example_of_each_class_where_possible(classes, n):
    labels = Stream("dgn shown", classes, n).permutations(1, n)[0] % classes
    chosen = shown_examples(labels)
    present = np.unique(labels)
    counts = np.bincount(labels[chosen])
    assert len(set(chosen)) == len(chosen) <= SHOWN
    assert (np.diff(labels[chosen]) >= 0).all()
    assert np.count_nonzero(counts) == min(SHOWN, len(present))
    assert len(chosen) == (min(SHOWN, n) if len(present) <= SHOWN else SHOWN)
    for c in np.unique(labels[chosen]):  # the first ones
        own = np.flatnonzero(labels == c)
        np.testing.assert_array_equal(chosen[labels[chosen] == c], own[: counts[c]])
        assert counts[c] in (len(own), counts.max(), counts.max() - 1)


def test_examples_are_those_of_the_file():
    figure, caption = drawn("examples")
    originals, said, made, answers, names, _ = made_up()
    chosen = shown_examples(made.labels)
    before, after = originals[chosen], made.images[chosen]
    for number, place in enumerate(chosen):
        first, second, third = (figure.axes[row * SHOWN + number] for row in range(3))
        for axes, image in ((first, before), (second, after), (third, after - before)):
            np.testing.assert_allclose(axes.images[0].get_array(), image[number, 0], atol=1e-6)
        assert first.texts[0].get_text() == f"class {names[made.labels[place]]:.12}"
        for axes, answer in ((first, said[place]), (second, answers[place])):
            assert axes.get_title() == f"target: {names[answer]:.12}"
            assert (axes.title.get_color() == WRONG) == (answer != made.labels[place])
    assert figure.axes[20].images[0].get_clim() == (-0.3, 0.3)
    for right, what in ((said == made.labels, "originals"), (answers == made.labels, "adversarial images")):
        low, high = clopper_pearson(int(right.sum()), len(right), CONFIDENCE)
        assert f"{right.mean():.1%} [{low:.1%}, {high:.1%}] of the {what}" in caption
    assert f"L∞ {made.likeness['linf']:.3g}, L2 {made.likeness['l2']:.3g}, SSIM {made.likeness['ssim']:.3g}." in caption
    assert caption.endswith("The true class was used in making them.")


def test_images_that_go_anywhere_are_shown_whole():
    figure, caption = drawn("examples, anywhere")
    _, _, made, *_ = made_up(bounded=False)
    reach = figure.axes[20].images[0].get_clim()[1]
    assert 0.3 < reach <= 0.8
    assert figure.axes[-1].get_yticklabels()[-1].get_text() == f"{reach:.2g}"
    assert "without keeping to ε = 0.3" in caption
    assert caption.endswith("The true class was not used in making them.")
    assert len(made.images) == 60


def test_rows_lead_back_to_the_originals():
    originals, said, made, answers, names, _ = made_up()
    keep = np.flatnonzero(made.labels % 2)
    part = replace(made, images=made.images[keep], rows=keep, labels=made.labels[keep])
    figure, _ = examples(originals, said, part, answers[keep], names, CONFIDENCE)
    first = keep[shown_examples(part.labels)][0]
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), originals[first, 0])
    assert figure.axes[0].get_title() == f"target: {names[said[first]]:.12}"


def test_losses_are_those_of_the_history():
    figure, caption = drawn("losses")
    rows = history()
    for c, line in enumerate(figure.axes[0].lines):
        np.testing.assert_allclose(line.get_xydata(), rows.loc[rows["class"] == c, ["step", "loss"]])
    styles = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(styles) == 10
    last = rows[rows["step"] == 12].set_index("class")["loss"]
    assert f"{last.mean():.4g} at the last, number 13, there from {last.min():.4g} (class {last.idxmin()})" in caption
    assert f"to {last.max():.4g} (class {last.idxmax()})." in caption
    assert LOSSES["nce"] in caption
    many, _ = drawn("losses, many classes")
    assert (len(many.axes[0].lines), many.legends) == (30, [])
