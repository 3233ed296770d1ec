"""The pictures of BadNet repair and their captions say what was judged and what the table says."""

import io
import itertools
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from torch import nn

from mithridate.certify.intervals import clopper_pearson
from mithridate.errors import InputError
from mithridate.options.badnet import StripOptions
from mithridate.pictures.badnet import (
    BINS,
    SHOWN,
    TRIGGERS,
    answers,
    composite,
    defences,
    pruning,
    shown_rows,
    statistic,
)
from mithridate.pictures.style import NAMES, save
from mithridate.repair.goodnet import clean_metrics, triggered_metrics
from mithridate.repair.judging import SUSPICIOUS, TWIN, Judged
from mithridate.repair.pruning import stop_step
from mithridate.repair.strip import Strip
from mithridate.repair.table import Defence, tabulate
from mithridate.streams import Stream
from tests.unit.making import words_apart

N, C, CHANNELS, CONFIDENCE, BOUNDARY, TAU = 60, 5, 12, 0.9, 0.25, 4.0
TRUE = np.arange(N) % C
OPTIONS = StripOptions(overlays=6)
LABELS = StripOptions(overlays=6, statistic="labels")
REPAIRS = ["prune", "fine-tune", "fine-prune"]
DELIVERED = Defence("delivered", "combination", "fine-prune")


@pytest.fixture(autouse=True, scope="module")
def _closed():
    yield
    plt.close("all")


def uniform(*shape, name):
    return Stream("badnet pictures", name).uniform(*shape)


def judged(name, target=None, known=True, repairs=REPAIRS, twin=True, counts=False, boundary=BOUNDARY):
    """Made-up answers to clean images, or to triggered ones of a target."""
    labels = TRUE if target is None else np.full(N, target)
    classes = {}
    for number, network in enumerate([SUSPICIOUS, *repairs, *([TWIN] if twin else [])]):
        fooled = target is not None and network != TWIN
        keep = uniform(N, name=f"{name} {network}") < (0.95 - 0.1 * number)
        classes[network] = np.where(keep, labels if fooled else TRUE, (TRUE + 1) % C)
    low, high = (0.0, 0.5) if target is not None else (0.2, 1.5)
    values = low + (high - low) * uniform(N, name=f"{name} statistic")
    values = 1 + np.floor(2 * values) if counts else values
    curve = np.linspace(0.9, 0.1, CHANNELS + 1) if "prune" in repairs else np.zeros(0)
    true = None if target is None or not known else TRUE
    return Judged(labels, true, classes, values, values <= boundary, boundary, curve, C, dict.fromkeys(classes, 1.0) | {"strip": 2.0})  # fmt: skip


def files(number, **how):
    """Clean test files and files of triggered images with targets 0, 1, …"""
    tests = {f"test{letter}": judged(f"test{letter}", **how) for letter in ("", "_2")[: number[0]]}
    names = ("square", "fourpixel", "sunglasses", "own_1", "own_2", "own_3")[: number[1]]
    return tests, {name: judged(name, target % C, **how) for target, name in enumerate(names)}


ONE, THREE, TESTS, ATTACKS, NONE = files((1, 1)), files((1, 3)), files((2, 0)), files((0, 2), known=False), ({}, {})
MANY, COUNTS = files((2, 5), twin=False), files((1, 2), counts=True, boundary=2.0)
RANGED = files((1, 1), repairs=["fine-tune", "weight-range"])
CURVE = pd.DataFrame({"step": np.arange(CHANNELS + 1), "clean_accuracy": 0.99 - np.arange(CHANNELS + 1) ** 3 / 2000})
ROUNDS = pd.DataFrame({"round": np.arange(4), "clean_accuracy": [0.99, 0.98, 0.97, 0.94]})
CALIBRATION = 0.2 + uniform(40, name="calibration")


def examples(tests, triggered, paired=True, shape=(1, 8, 8)):
    rows = shown_rows(tests, triggered, paired)
    return {name: (own, uniform(len(own), *shape, name=name).astype(np.float32)) for name, own in rows.items()}


def shown(both, shape=(1, 8, 8), paired=True, options=OPTIONS, delivered=DELIVERED, whole=True):
    overlays = uniform(7, *shape, name="overlays").astype(np.float32)
    laid = np.rint(255 * overlays).astype(np.uint8) if whole else overlays
    return answers(delivered, *both, examples(*both, paired, shape), laid, options)


def table(*nets, repairs=REPAIRS):
    parts = []
    for name, (tests, triggered), targets in nets:
        rows = tabulate({"net": name}, list(tests.values()), triggered, repairs, {}, CONFIDENCE)
        rows.insert(2, "target", rows["trigger"].map(targets).astype("Int64"))
        parts.append(rows)
    return pd.read_csv(io.StringIO(pd.concat(parts).to_csv(index=False)))


TARGETS = {"square": 0, "fourpixel": 1, "sunglasses": 2}
PLANTED = ("square-t0-r0.2-n0", ONE, TARGETS), ("multi-t0+1+2-r0.4-n0", THREE, TARGETS)
OWN = [(f"net_{number}", both, {}) for number, both in enumerate((TESTS, ATTACKS, NONE, MANY))]
PICTURES = {
    "pruning": lambda: pruning(CURVE, *THREE, TAU),
    "pruning, many": lambda: pruning(CURVE, *MANY, TAU),
    "pruning, no files": lambda: pruning(CURVE, *NONE, TAU),
    "pruning, rounds": lambda: pruning(ROUNDS, *RANGED, TAU),
    "statistic": lambda: statistic(CALIBRATION, BOUNDARY, OPTIONS, *THREE, CONFIDENCE),
    "statistic, many": lambda: statistic(CALIBRATION, BOUNDARY, OPTIONS, *MANY, CONFIDENCE),
    "statistic, no files": lambda: statistic(CALIBRATION, BOUNDARY, OPTIONS, *NONE, CONFIDENCE),
    "statistic, only tests": lambda: statistic(CALIBRATION, BOUNDARY, OPTIONS, *TESTS, CONFIDENCE),
    "statistic, labels": lambda: statistic(np.array([2.0, 3, 4, 5]), 2.0, LABELS, *COUNTS, CONFIDENCE),
    "statistic, ties": lambda: statistic(np.ones(9), -np.inf, LABELS, *files((1, 1), counts=True), CONFIDENCE),
    "answers": lambda: shown(THREE),
    "answers, all flagged": lambda: shown(files((2, 0), boundary=2.0)),
    "answers, colour": lambda: shown(ONE, (3, 55, 47), whole=False),
    "answers, many": lambda: shown(MANY, paired=False),
    "answers, no files": lambda: shown(NONE),
    "answers, only triggered": lambda: shown(ATTACKS, paired=False, options=LABELS),
    "answers, rounds": lambda: shown(RANGED, delivered=Defence("delivered", "agreement", "weight-range")),
    "defences": lambda: defences(table(*PLANTED), CONFIDENCE),
    "defences, own": lambda: defences(table(*PLANTED, *OWN), CONFIDENCE),
    "defences, no files": lambda: defences(table(("own", NONE, {})), CONFIDENCE),
    "defences, rounds": lambda: defences(table(("own", RANGED, {}), repairs=["fine-tune", "weight-range"]), CONFIDENCE),
}  # fmt: skip


@cache
def drawn(name):
    return PICTURES[name]()


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_valid_and_no_words_overlap(tmp_path, name):
    figure, caption = drawn(name)
    figure.draw_without_rendering()
    words = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        words += [*axes.texts, axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            words += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    words_apart(figure, words)
    save((figure, caption), tmp_path / "picture.svg", tmp_path / "caption.rst")
    assert ElementTree.parse(tmp_path / "picture.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    text = (tmp_path / "caption.rst").read_text()
    assert text.endswith(".\n")
    assert text.count("\n") == 1
    assert "nan" not in text
    assert "  " not in text


@pytest.mark.parametrize("name", ["pruning", "statistic, labels", "answers, colour", "defences, rounds"])
def test_equal_judgements_give_equal_bytes(tmp_path, name):
    for number in (1, 2):
        save(PICTURES[name](), tmp_path / f"{number}.svg", tmp_path / f"{number}.rst")
    assert (tmp_path / "1.svg").read_bytes() == (tmp_path / "2.svg").read_bytes()


def test_what_is_missing_is_said():
    for name in ("pruning", "statistic", "answers"):
        assert drawn(f"{name}, no files")[1].endswith("There are no clean test and no triggered images.")
    assert drawn("answers, only triggered")[1].endswith("There are no clean test images.")
    assert drawn("statistic, only tests")[1].endswith("There are no triggered images.")
    assert "There are" not in drawn("answers")[1]
    caption = drawn("defences, no files")[1]
    assert caption.endswith("Attack success – own: no images. Clean accuracy – own: no images.")


def test_pruning_draws_every_curve_and_where_it_stopped():
    figure, caption = drawn("pruning")
    stop, lines = stop_step(CURVE, TAU), {line.get_label(): line for line in figure.axes[0].lines}
    expected = {"clean accuracy: held-out images": CURVE["clean_accuracy"].to_numpy()}
    expected |= {"clean accuracy: test": THREE[0]["test"].curve}
    expected |= {f"attack success: {name}": one.curve for name, one in THREE[1].items()}
    for label, values in expected.items():
        np.testing.assert_array_equal(lines.pop(label).get_ydata(), values)
        assert f"{label} {values[0]:.1%} → {values[stop]:.1%}" in caption
    ((label, line),) = lines.items()
    assert (label, set(line.get_xdata())) == (f"pruning stopped: {stop} of {CHANNELS} channels", {stop})
    assert caption.startswith(f"Pruning stopped at {stop} of {CHANNELS} channels, the first at which 4 points of")


def test_rounds_show_clean_accuracy_alone():
    figure, caption = drawn("pruning, rounds")
    (line,) = figure.axes[0].lines
    np.testing.assert_array_equal(line.get_xydata(), ROUNDS)
    assert caption.startswith("Weight-range pruning, 3 rounds; it ends early once 4 points")
    assert caption.endswith("held-out images 99.0% → 94.0%.")


def share(hits):
    low, high = clopper_pearson(int(hits.sum()), len(hits), CONFIDENCE)
    return f"{hits.mean():.1%} [{low:.1%}, {high:.1%}] of {len(hits)}"


def test_statistic_counts_what_the_table_counts():
    figure, caption = drawn("statistic")
    strip, (tests, triggered) = Defence("STRIP", "strip"), THREE
    rate = clean_metrics(strip.outputs(tests["test"]), TRUE, C, CONFIDENCE)
    assert f"test {rate['frr']:.1%} [{rate['frr_low']:.1%}, {rate['frr_high']:.1%}] of {N}." in caption
    for name, one in triggered.items():
        rate = triggered_metrics(strip.outputs(one), TRUE, one.labels, C, CONFIDENCE)
        flagged = f"{rate['flagged']:.1%} [{rate['flagged_low']:.1%}, {rate['flagged_high']:.1%}]"
        assert f"{name} {flagged} of {N - N // C}" in caption
    assert (
        f"images (false rejections), with 90% Clopper–Pearson intervals: test {share(tests['test'].flagged)}" in caption
    )
    assert (
        f"on 40 clean images, for a false rejection rate of 0.01: {(CALIBRATION <= BOUNDARY).sum()} flagged." in caption
    )
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles[0].startswith("clean calibration images – flagged:")
    assert titles[2].startswith("triggered: square – flagged:")
    assert titles[2].endswith(f"of {N - N // C}")
    for axes in figure.axes:
        assert [set(line.get_xdata()) for line in axes.lines] == [{BOUNDARY}]


def test_every_image_is_in_the_histogram():
    figure, _ = drawn("statistic")
    for axes in figure.axes:
        x, y = axes.patches[0].get_xy().T
        area = abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2
        np.testing.assert_allclose(BINS * area / np.diff(axes.get_xlim()), 1)
    counts, caption = drawn("statistic, labels")
    assert [set(line.get_xdata()) for line in counts.axes[0].lines] == [{2.5}]  # between 2, which is flagged, and 3
    assert "the number of distinct predictions under 6 overlays" in caption
    ties, caption = drawn("statistic, ties")
    assert not ties.axes[0].lines
    assert "Ties leave no boundary, so that no image is flagged." in caption


def test_shown_rows():
    rows = shown_rows(*THREE, paired=True)
    assert all(np.array_equal(own, rows["test"]) for own in rows.values())
    assert (len(rows["test"]), np.isin(TRUE[rows["test"]], [0, 1, 2]).any()) == (SHOWN, False)
    rows = shown_rows(*THREE, paired=False)
    np.testing.assert_array_equal(rows["test"], [0, 20, 39, 59])
    assert all((TRUE[rows[name]] != target).all() for name, target in TARGETS.items())
    np.testing.assert_array_equal(shown_rows(*ATTACKS, paired=False)["square"], [0, 20, 39, 59])
    assert len(shown_rows(*files((1, 6)), paired=True)["test"]) == SHOWN  # every class is a target
    one = replace(THREE[1]["square"], true_labels=np.zeros(N, np.int64))
    with pytest.raises(InputError, match="none of another class than its target"):
        shown_rows({}, {"square": one}, paired=False)


@pytest.mark.parametrize("rule", ["agreement", "combination"])
def test_answers_are_the_delivered_networks(rule):
    delivered = Defence("delivered", rule, "fine-prune")
    figure, caption = shown(THREE, delivered=delivered)
    assert caption.startswith(f"What the delivered GoodNet says (rule {rule}, repaired by Fine-Pruning)")
    texts = iter(text for axes in figure.axes for text in axes.texts)
    for name, one in itertools.chain(*(own.items() for own in THREE)):
        said, clean = delivered.outputs(one), name == "test"
        for number, row in enumerate(shown_rows(*THREE, paired=True)[name]):
            if not number:
                assert next(texts).get_text() == f"{'clean' if clean else 'triggered'}: {name}"
            assert next(texts).get_text() == f"class {TRUE[row]}, net: {one.classes[SUSPICIOUS][row]}"
            text = next(texts)
            assert text.get_text() == f"GoodNet: {said[row] if said[row] < C else 'backdoored'}"
            bad = said[row] != TRUE[row] if clean else said[row] == one.labels[row]
            assert (text.get_color() == TRIGGERS[0]) == bad
        if clean:
            found = clean_metrics(said, TRUE, C, CONFIDENCE)
            summary = f"{found['clean_accuracy']:.1%} right, {found['frr']:.1%} backdoored of {N}."
        else:
            found = triggered_metrics(said, TRUE, one.labels, C, CONFIDENCE)
            summary = f"{found['asr']:.1%} the target, {found['recovered']:.1%} right, {found['flagged']:.1%} backdoored of 48."
        assert f"{name}: {summary}" in caption


def test_answers_of_own_files_without_true_classes():
    figure, caption = drawn("answers, only triggered")
    assert figure.axes[0].texts[1].get_text().startswith("net: ")
    said = DELIVERED.outputs(ATTACKS[1]["square"])
    assert f"square: {(said == 0).mean():.1%} the target, {(said == C).mean():.1%} backdoored of {N}." in caption


def test_images_are_shown_with_their_overlay():
    figure, _ = drawn("answers, colour")
    overlays = uniform(7, 3, 55, 47, name="overlays").astype(np.float32)[[0, 2, 4, 6]]
    pictures = [axes.images[0].get_array().transpose(2, 0, 1) for axes in figure.axes]
    for name, ours in zip(("test", "square"), (pictures[: 2 * SHOWN], pictures[2 * SHOWN :]), strict=True):
        images = examples(*ONE, shape=(3, 55, 47))[name][1]
        np.testing.assert_allclose(ours[::2], images)
        np.testing.assert_allclose(ours[1::2], np.minimum(images + overlays, 1))


@pytest.mark.parametrize("how", [{}, {"overlay": "convex"}, {"statistic": "labels"}])
def test_composites_are_those_of_strip(how):
    image, overlay = uniform(2, 3, 5, 4, name="composite").astype(np.float32)
    options = StripOptions(overlays=1, **how)
    strip = Strip(nn.Identity(), overlay[None], options=options, seed=0)
    seen = strip._superimpose(torch.from_numpy(image), torch.from_numpy(overlay.copy()))
    np.testing.assert_array_equal(composite(image, overlay, options), seen.numpy())


def test_defences_are_those_of_the_table():
    figure, caption = drawn("defences")
    rows = table(*PLANTED)
    rows = rows[rows["rule"] != "agreement"]
    left, right = figure.axes
    for axes, column in ((left, "asr"), (right, "clean_accuracy")):
        assert len(axes.containers) == 6
        for (name, own), points in zip(rows.groupby("defence", sort=False), axes.containers, strict=True):
            assert points.get_label() == NAMES[name]
            np.testing.assert_allclose(points.lines[0].get_xdata().astype(float), own[column])
            ends = [segment[:, 0] for segment in points.lines[2][0].get_segments()]
            np.testing.assert_allclose(ends, own[[f"{column}_low", f"{column}_high"]])
    (twins,) = (lines for lines in right.collections if lines.get_label() == "clean twin")
    assert {x for segment in twins.get_segments() for x in segment[:, 0]} == set(rows["twin_clean_accuracy"])
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert labels[:2] == ["square-t0-r0.2-n0\nsquare, target 0", "multi-t0+1+2-r0.4-n0\nsquare, target 0"]
    for net, trigger in (("square-t0-r0.2-n0", "square"), ("multi-t0+1+2-r0.4-n0", "sunglasses")):
        own = rows[(rows["net"] == net) & (rows["trigger"] == trigger)]
        for start, column in ((f"{net}, {trigger}", "asr"), (net, "clean_accuracy")):
            each = [f"{NAMES[row['defence']]} {row[column]:.1%}" for row in own.to_dict("records")]
            assert f"{start}: {', '.join(each)}, clean twin {own[f'twin_{column}'].iloc[0]:.1%}." in caption
    assert f"over up to {N - N // C} triggered and {N} clean images" in caption


def test_own_networks_without_files_keep_their_place():
    figure, caption = drawn("defences, own")
    left, right = figure.axes
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert labels[4:8] == ["net_0\n", "net_1\nsquare", "net_1\nfourpixel", "net_2\n"]
    assert [text.get_position()[1] for text in left.texts] == [4, 7]
    assert [text.get_position()[1] for text in right.texts] == [5, 6, 7]
    assert [text.get_text() for text in figure.legends[0].get_texts()].count("clean twin") == 1
    figure, _ = defences(table(("own", MANY, {})), CONFIDENCE)  # which have no twin
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        *map(NAMES.get, ("none", *REPAIRS, "STRIP", "combined"))
    ]
    attacks, cleans = caption.split("Clean accuracy – ")
    assert [text.count(f"net_{number}: no images.") for text in (attacks, cleans) for number in range(3)] == [
        1,
        0,
        1,
        0,
        1,
        1,
    ]
