"""The pictures of randomized smoothing and their captions say what the tables say."""

import itertools
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from mithridate.certify.smoothing_table import FAILS, HOLDS, UNDECIDED
from mithridate.pictures.smoothing import SHOWN, average_radii, certified_accuracy, perturbations, transfer
from mithridate.pictures.style import NAMES, save
from mithridate.streams import Stream
from tests.unit.making import words_apart

CONFIDENCE, TARGET, N_TEST, EPSILON = 0.9, 8, 150, 0.1
RADII = np.array([0, 0.25, 0.5, 0.75, 1.0])
LEVEL = {"clean": 0.9, "poisoned": 0.5, "random": 0.8, "own": 0.6, "transfer": 0.7}
PROCEDURES = ("gaussian", "smoothadv", "macer")
MODEL = "smoothing_digits"


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def uniform(*name):
    return float(Stream("smoothing pictures", *map(str, name)).uniform(1)[0])


def cert(procedures=PROCEDURES, sigmas=(0.25, 0.5), sets=tuple(LEVEL), seeds=3, models=(MODEL,), own=("mine",)):
    """A table as the workflow writes it, of made-up certificates."""
    rows = []
    for victim in itertools.product(procedures, sigmas, models, sets, range(seeds), ("target", "others")):
        procedure, sigma, model, training, seed, classes = victim
        poisons = {"clean": [""], "own": own, "random": ["random"]}.get(training, [f"{procedure}-s{sigma}-t8"])
        for poison in poisons:
            level = LEVEL[training] + 0.1 * uniform(*victim, poison) - 0.05
            accuracy = np.round(level * np.exp(-((RADII / 2 / sigma) ** 2)) * N_TEST) / N_TEST
            rows.append(
                pd.DataFrame(
                    {
                        "dataset": "digits", "procedure": procedure, "sigma": sigma, "model": model,
                        "training_set": training, "poison": poison or None, "seed": seed, "target": TARGET,
                        "test_classes": classes, "radius": RADII, "certified_accuracy": accuracy,
                        "ci_low": (accuracy - 0.07).clip(0), "ci_high": (accuracy + 0.07).clip(max=1),
                        "bootstrap_low": (accuracy - 0.06).clip(0), "bootstrap_high": (accuracy + 0.06).clip(max=1),
                        "acr": level * sigma, "acr_low": 0.9 * level * sigma, "acr_high": 1.2 * level * sigma,
                        "n_test": N_TEST if classes == "target" else 7, "n": 10_000, "alpha": 0.001,
                    }
                )
            )  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def claims(procedures=PROCEDURES, sigmas=(0.25,), sets=("poisoned", "transfer", "random"), seeds=3, models=(MODEL,)):
    """The same for the claims; poisons are tried on networks of the same sigma, and made against the first model."""
    rows = []
    for procedure, sigma, model, classes in itertools.product(procedures, sigmas, models, ("target", "others")):
        for poison in [*(f"{attacked}-s{sigma}-t8" for attacked in procedures), "random", "mine"]:
            against = poison.startswith(f"{procedure}-") and model == models[0]
            training = {"random": "random", "mine": "own"}.get(poison, "poisoned" if against else "transfer")
            if training not in sets:
                continue
            mean = {"poisoned": 0.5, "transfer": 0.2, "random": 0.0, "own": 0.3}[training]
            drop = mean + 0.2 * uniform(procedure, sigma, model, classes, poison) - 0.1
            low, high = drop - 0.06, drop + 0.13
            verdict = UNDECIDED if seeds == 1 else HOLDS if low > 0.3 else FAILS if high < 0.3 else UNDECIDED
            rows.append(
                {
                    "dataset": "digits", "procedure": procedure, "sigma": sigma, "model": model,
                    "training_set": training, "poison": poison, "target": TARGET, "test_classes": classes,
                    "acr_clean": 0.6, "acr": 0.6 * (1 - drop), "drop": drop, "drop_low": low, "drop_high": high,
                    "claim": verdict, "seeds": seeds, "n_test": N_TEST if classes == "target" else 7,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def images(n=12, channels=1, epsilon=EPSILON):
    clean = Stream("clean").uniform(n, channels, 6, 6).astype(np.float32)
    change = epsilon * (2 * Stream("change").uniform(*clean.shape) - 1)
    return clean, np.clip(clean + change, 0, 1).astype(np.float32), epsilon


CERT, CLAIMS = cert(), claims()
NOTHING = CLAIMS.assign(acr_clean=0.0, drop=np.nan, drop_low=np.nan, drop_high=np.nan, claim=UNDECIDED)
ONE = {"procedures": ("macer",), "sigmas": (0.5,), "seeds": 1}
MANY = {"models": (MODEL, "resnet20"), "sets": tuple(LEVEL), "sigmas": (0.25, 0.5)}
LONG = (MODEL, "my_package.networks:residual_network")
PICTURES = {
    "curve": lambda: certified_accuracy(CERT, "gaussian", 0.25, MODEL, CONFIDENCE),
    "curve, one seed": lambda: certified_accuracy(cert(**ONE), "macer", 0.5, MODEL, CONFIDENCE),
    "curve, only clean": lambda: certified_accuracy(cert(sets=("clean",)), "macer", 0.5, MODEL, CONFIDENCE),
    "curve, several own": lambda: certified_accuracy(cert(own=("a", "b")), "macer", 0.5, MODEL, CONFIDENCE),
    "radii": lambda: average_radii(CERT, CONFIDENCE),
    "radii, one of all": lambda: average_radii(cert(sets=("clean", "poisoned"), **ONE)),
    "radii, many": lambda: average_radii(cert(own=("a", "b"), **MANY)),
    "radii, long names": lambda: average_radii(cert(own=("one-of-several-own-poisons", "another-poison"), models=LONG)),
    "radii, nothing certified": lambda: average_radii(CERT.assign(acr=0.0, acr_low=0.0, acr_high=0.0)),
    "transfer": lambda: transfer(CLAIMS, CONFIDENCE),
    "transfer, one of all": lambda: transfer(claims(sets=("poisoned",), **ONE)),
    "transfer, many": lambda: transfer(claims(**MANY)),
    "transfer, long names": lambda: transfer(claims(models=LONG)),
    "transfer, only random": lambda: transfer(claims(sets=("random",))),
    "transfer, nothing to fall": lambda: transfer(NOTHING),
    "transfer, rise": lambda: transfer(CLAIMS.assign(drop=-1.5, drop_low=-np.inf, drop_high=-1.0)),
    "perturbations": lambda: perturbations(*images()),
    "perturbations, colour": lambda: perturbations(*images(3, 3)),
    "perturbations, one, none": lambda: perturbations(*images(1, epsilon=0.0)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_equal_tables_give_equal_valid_pictures(tmp_path, name):
    for number in (1, 2):
        save(PICTURES[name](), tmp_path / f"{number}.svg", tmp_path / f"{number}.txt")
    assert (tmp_path / "1.svg").read_bytes() == (tmp_path / "2.svg").read_bytes()
    assert ElementTree.parse(tmp_path / "1.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    caption = (tmp_path / "1.txt").read_text()
    assert caption == (tmp_path / "2.txt").read_text()
    assert caption.endswith(".\n")
    assert caption.count("\n") == 1
    assert "nan" not in caption
    assert "  " not in caption


@pytest.mark.parametrize("name", PICTURES)
def test_nothing_is_drawn_outside_and_no_words_overlap(name):
    figure, _ = PICTURES[name]()
    figure.canvas.draw()
    words = []
    for axes in figure.axes:
        frame = axes.get_window_extent().padded(1)
        bands = [path for band in axes.collections for path in band.get_paths()]
        drawn = [*(line.get_xydata() for line in axes.lines), *(path.vertices for path in bands)]
        corners = [axes.transData.transform([shape.min(0), shape.max(0)]) for shape in drawn]
        inside = [*axes.texts, *axes.patches, *filter(None, [axes.get_legend()])]
        corners += [word.get_window_extent().get_points() for word in inside]
        if axes.get_label() != "<colorbar>":
            for low, high in corners:
                assert (frame.min <= low).all()
                assert (high <= frame.max).all()
        words += axes.texts
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
            words += [axis.label, *(word for place, word in ticks if low <= place <= high)]
    words += [text for legend in figure.legends for text in legend.get_texts()]
    words_apart(figure, words)


def target_rows(training, procedure="gaussian", sigma=0.25):
    rows = CERT[(CERT["test_classes"] == "target") & (CERT["training_set"] == training)]
    return rows[(rows["procedure"] == procedure) & (rows["sigma"] == sigma)]


def mean_and_range(acr):
    return f"{acr.mean():.3f} ({acr.min():.3f} to {acr.max():.3f})"


@pytest.mark.parametrize("training", ["clean", "poisoned", "random", "own"])
def test_the_curve_is_the_mean_over_seeds_with_their_range(training):
    figure, caption = PICTURES["curve"]()
    rows = target_rows(training)
    label = NAMES[training] + (" mine" if training == "own" else "")
    accuracy = rows.pivot(index="radius", columns="seed", values="certified_accuracy")
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == label]
    np.testing.assert_allclose(line.get_xydata(), np.column_stack([RADII, accuracy.mean(axis=1)]))
    band = figure.axes[0].collections[figure.axes[0].lines.index(line)].get_paths()[0].vertices
    for radius, values in zip(RADII, accuracy.to_numpy(), strict=True):
        heights = band[band[:, 0] == radius, 1]
        np.testing.assert_allclose([heights.min(), heights.max()], [values.min(), values.max()])
    acr = rows.groupby("seed")["acr"].first()
    assert (
        f"Training set {label}: {accuracy.loc[0].mean():.1%} at radius 0, average certified radius"
        f" {mean_and_range(acr)}." in caption
    )


def test_the_curves_caption_says_what_was_certified_and_what_not():
    figure, caption = PICTURES["curve"]()
    assert len(figure.axes[0].lines) == 4  # and no transferred poison
    assert caption.startswith(
        f"Gaussian augmentation, σ = 0.25, model {MODEL}: {N_TEST} test images of class {TARGET}, each certified from"
        " N = 10000 noises at α = 0.001. Means over training seeds (3), in brackets the lowest and the highest."
    )
    assert "Bands: from the lowest to the highest training seed." in caption
    assert "says nothing of changes of the training set" in caption


def test_one_seed_is_shown_with_the_interval_of_the_test_images():
    figure, caption = PICTURES["curve, one seed"]()
    table = cert(**ONE)
    rows = table[(table["test_classes"] == "target") & (table["training_set"] == "clean")]
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(band[:, 1].max(), rows["ci_high"].max())
    np.testing.assert_allclose(band[:, 1].min(), rows["ci_low"].min())
    assert "One training seed." in caption
    assert "Bands: 90% over the test images at each radius, for a single training seed." in caption


def test_bars_are_means_and_whiskers_reach_over_all_intervals():
    figure, caption = PICTURES["radii"]()
    axes = figure.axes[0]
    for container, training in zip(axes.containers[::2], ("clean", "poisoned", "random", "own"), strict=True):
        groups = list(itertools.product(PROCEDURES, (0.25, 0.5)))
        for number, (bar, (procedure, sigma)) in enumerate(zip(container, groups, strict=True)):
            rows = target_rows(training, procedure, sigma)
            acr = rows.groupby("seed")["acr"].first()
            assert bar.get_height() == pytest.approx(acr.mean())
            assert abs(bar.get_x() + bar.get_width() / 2 - number) < 0.4
            whisker = axes.containers[axes.containers.index(container) + 1].lines[2][0].get_segments()[number]
            np.testing.assert_allclose(whisker[:, 1], [rows["acr_low"].min(), rows["acr_high"].max()])
            label = NAMES[training] + (" mine" if training == "own" else "")
            (sentence,) = [part for part in caption.split(". ") if part.startswith(f"{NAMES[procedure]}, σ = {sigma}:")]
            assert f"{label} {mean_and_range(acr)}" in sentence
    assert f"{N_TEST} test images of class {TARGET}" in caption
    assert "90% bootstrap intervals" in caption
    assert " bootstrap intervals" in PICTURES["radii, one of all"]()[1]


def percent(drop):
    change = round(-100 * drop)
    return f"{change:+d}\u00a0%".replace("-", "−") if change else "0\u00a0%"


def test_every_cell_holds_its_change_and_interval():
    figure, caption = PICTURES["transfer"]()
    axes = figure.axes[0]
    own = CLAIMS[CLAIMS["test_classes"] == "target"]
    rows, columns = ([tick.get_text() for tick in ticks] for ticks in (axes.get_yticklabels(), axes.get_xticklabels()))
    assert columns == ["Gaussian\naugmentation\nσ = 0.25", "SmoothAdv\nσ = 0.25", "MACER\nσ = 0.25"]
    assert rows == [*(f"against {name}" for name in columns), "random ±ε"]
    poisons = ["gaussian-s0.25-t8", "smoothadv-s0.25-t8", "macer-s0.25-t8", "random"]
    cells = {text.get_position(): text for text in axes.texts}
    assert len(cells) == len(own) == 12
    for row in own.to_dict("records"):
        x, y = PROCEDURES.index(row["procedure"]), poisons.index(row["poison"])
        interval = f"[{percent(row['drop_high'])}, {percent(row['drop_low'])}]"
        assert cells[x, y].get_text() == f"{percent(row['drop'])}\n{interval}"
        assert (cells[x, y].get_fontweight() == "bold") == (row["claim"] == HOLDS)
        assert axes.images[0].get_array()[y, x] == pytest.approx(-row["drop"])
        if row["training_set"] == "poisoned":
            assert f"{NAMES[row['procedure']]}, σ = 0.25: {percent(row['drop'])} {interval}" in caption
    assert len(axes.patches) == 3
    for training, words in (("transfer", "Poisons made against another network"), ("random", "Random ±ε")):
        drops = own.loc[own["training_set"] == training, "drop"]
        assert f"{words}: {percent(drops.max())} to {percent(drops.min())}." in caption
    verdicts = own.loc[own["training_set"] != "random", "claim"].value_counts()
    assert verdicts[HOLDS] > 0
    assert (
        f"in {verdicts[HOLDS]} of 9 cells, not so in {verdicts.get(FAILS, 0)} and undecided in"
        f" {verdicts.get(UNDECIDED, 0)}." in caption
    )
    assert f"training seeds (3) and {N_TEST} test images of class {TARGET}. In brackets 90% bootstrap" in caption


def test_colours_are_centred_on_no_change_and_missing_cells_are_blank():
    figure, _ = PICTURES["transfer, many"]()
    picture = figure.axes[0].images[0]
    assert picture.norm(0) == pytest.approx(0.5)
    empty = np.ma.getmaskarray(picture.get_array())
    assert 0 < empty.sum() == empty.size - len(figure.axes[0].texts)


def test_a_fall_from_nothing_is_undefined_and_a_rise_has_its_sign():
    figure, caption = PICTURES["transfer, nothing to fall"]()
    assert {text.get_text().strip() for text in figure.axes[0].texts} == {"undefined"}
    assert "in 0 of 9 cells, not so in 0 and undecided in 9." in caption
    assert PICTURES["transfer, rise"]()[0].axes[0].texts[0].get_text() == "+150\u00a0%\n[+100\u00a0%, +∞]"


def test_one_seed_decides_nothing_and_says_so():
    caption = PICTURES["transfer, one of all"]()[1]
    assert "one seed says nothing about retraining" in caption
    assert "in 0 of 1 cells, not so in 0 and undecided in 1." in caption


@pytest.mark.parametrize("channels", [1, 3])
def test_perturbations_show_the_difference_between_minus_and_plus_epsilon(channels):
    clean, poisoned, _ = images(channels=channels)
    figure, caption = perturbations(clean, poisoned, EPSILON)
    assert len(figure.axes) == 3 * SHOWN + 1
    for number in range(SHOWN):
        picture = figure.axes[2 * SHOWN + number].images[0]
        assert picture.get_clim() == (-EPSILON, EPSILON)
        np.testing.assert_allclose(picture.get_array(), (poisoned - clean)[number].mean(0), atol=1e-7)
    change = np.abs(poisoned.astype(np.float64) - clean)
    assert f"{SHOWN} of {len(clean)} poisoned" in caption
    assert f"ε = {EPSILON};" in caption
    assert f"largest change is {change.max():.4g}, the mean absolute change {change.mean():.4g}." in caption
    assert ("averaged over colours" in caption) == (channels > 1)
