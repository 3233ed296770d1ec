"""The pictures of backdoors and of real attacks on votes."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mithridate.certify.intervals import clopper_pearson
from mithridate.pictures.style import COLOURS, LINES, Figure, by_ensemble, image_pairs, plt

SHOWN = 6  # example images


def trigger_examples(clean: np.ndarray, triggered: np.ndarray, scale: float, norm: np.ndarray) -> tuple[Figure, str]:
    """Some test images uint8 [n,C,H,W] without and with the trigger, and the difference; norm [n] is its size."""
    count = min(SHOWN, len(clean))
    shown = clean[:count] * scale, triggered[:count] * scale
    reach = max(float(np.abs(shown[1] - shown[0]).max()), 1e-6)
    figure = image_pairs(*shown, ("as it is", "with trigger"), reach)
    return figure, (
        f"The first {count} test images, the same with the trigger, and the difference. Clipped to the range of pixels"
        f" and rounded to stored values, the trigger's L2 norm is {norm.mean():.2f} on average over {len(norm)} test"
        f" images ({norm.min():.2f} to {norm.max():.2f})."
    )


def certified_accuracy(
    curve: pd.DataFrame, variants: Mapping[str, float], training: str, inputs: str, trigger: str
) -> tuple[Figure, str]:
    """Certified accuracy against radius for the ensembles of one attack.

    variants: the poisoned variants of the attack with their numbers of poisoned images; training: clean (one curve a
    method) or poisoned (one a method and number, the mean over the seeds with the range shaded); inputs: clean or
    triggered test images.
    """
    shown = "" if inputs == "clean" else trigger
    curve = curve[(curve["trigger"].fillna("") == shown) & (curve["certificate_kind"] == "pointwise")]
    ks = set(curve.loc[curve["variant"].isin(list(variants)), "k"].map(str) + " " + curve["d"].map(str))
    curve = curve[(curve["k"].map(str) + " " + curve["d"].map(str)).isin(ks)]
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    numbers = {"clean": [0.0], "poisoned": sorted(set(variants.values()))}[training]
    sentences = []
    for style, number in zip(LINES * len(numbers), numbers, strict=False):
        names = ["clean"] if training == "clean" else [name for name, r in variants.items() if r == number]
        own = curve[curve["variant"].isin(names)]
        for method, name, rows in by_ensemble(own):
            table = rows.pivot(index="radius", columns="variant", values="certified_accuracy").fillna(0)
            table = table.reindex(range(int(table.index.max()) + 1), fill_value=0)
            label = name + (f", {number:g} poisoned" if training == "poisoned" else "")
            mean = table.mean(axis=1)
            axes.step(table.index, mean, style, where="post", color=COLOURS[method], label=label)
            low, high = table.min(axis=1), table.max(axis=1)
            axes.fill_between(table.index, low, high, step="post", color=COLOURS[method], alpha=0.12, linewidth=0)
            half = int((mean >= 0.5).sum())
            accuracy = f"{label}: accuracy {mean.iloc[0]:.1%}"
            sentences.append(
                f"{accuracy}, at least half certified up to radius {half - 1}." if half else f"{accuracy}."
            )
    axes.set(xlabel="radius: training samples inserted or deleted", ylabel="certified accuracy", ylim=(0, 1.01))
    axes.set_xlim(left=0)
    axes.legend(fontsize=9)
    meaning = {
        "clean": "Trained on the clean set: a radius counts any poisons, the backdoor's included.",
        "poisoned": "Trained on the poisoned sets: a radius counts further poisons; shaded is the range over seeds.",
    }[training]
    return figure, " ".join([f"{inputs.capitalize()} test images. {meaning}", *sentences])


def success_rate(matrix: pd.DataFrame, confidence: float) -> tuple[Figure, str]:
    """Attack success rate against the number of poisoned images, for each defence of one attack."""
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    sentences = []
    for defence, name, rows in by_ensemble(matrix, "defence"):
        rows = rows.sort_values("poisoned_images")
        x, y = rows["poisoned_images"], rows["asr"]
        axes.plot(x, y, "o-", color=COLOURS[defence], label=name, markersize=4)
        axes.fill_between(x, rows["asr_low"], rows["asr_high"], color=COLOURS[defence], alpha=0.15, linewidth=0)
        spread = [(y - rows["asr_seed_low"]).clip(0), (rows["asr_seed_high"] - y).clip(0)]
        axes.errorbar(x, y, yerr=spread, fmt="none", color=COLOURS[defence], capsize=3, linewidth=1)
        last = rows.iloc[-1]
        sentences.append(f"{name}: {last['asr']:.1%} at {last['poisoned_images']} poisoned images.")
    _count_poisons(axes, matrix["poisoned_images"])
    axes.set(ylabel="attack success rate", ylim=(-0.02, 1.02))
    axes.legend(fontsize=9)
    n, sets = int(matrix["n_triggered"].iloc[0]), int(matrix["poison_seeds"].max())
    return figure, " ".join(
        [
            "Share of triggered test images of other classes that are taken for the target;",
            "at 0 the clean-trained twin.",
            *sentences,
            f"Bands: {confidence:.0%} over {n} test images; bars: {confidence:.0%} over {sets} poisoned sets.",
        ]
    )


def certified_and_empirical(matrix: pd.DataFrame, confidence: float) -> tuple[Figure, str]:
    """What is certified of triggered images against any attack of the size, and what this attack leaves."""
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    sentences = []
    for defence, name, rows in by_ensemble(matrix, "defence"):
        rows = rows.sort_values("poisoned_images")
        x = rows["poisoned_images"]
        axes.plot(x, rows["triggered_accuracy"], "o-", color=COLOURS[defence], markersize=4, label=f"{name}: observed")
        low, high = rows["triggered_accuracy_low"], rows["triggered_accuracy_high"]
        axes.fill_between(x, low, high, color=COLOURS[defence], alpha=0.12, linewidth=0)
        if defence != "single":
            axes.plot(
                x, rows["certified_triggered"], "s--", color=COLOURS[defence], markersize=4, label=f"{name}: certified"
            )
            last = rows.iloc[-1]
            sentences.append(
                f"{name}: at {last['poisoned_images']} poisoned images {last['triggered_accuracy']:.1%} are right,"
                f" {last['certified_triggered']:.1%} certified against any {last['poisoned_images']} replaced images."
            )
    _count_poisons(axes, matrix["poisoned_images"])
    axes.set(ylabel="share of triggered test images", ylim=(-0.02, 1.02))
    axes.legend(fontsize=9)
    limit = int(matrix["largest_radius"].max())
    return figure, " ".join(
        [
            "Triggered test images of other classes than the target: how many are still seen as what they are, and how",
            "many the clean-trained ensembles certify at twice the number (a replaced image is one out and one in).",
            *sentences,
            f"No certificate of these ensembles exceeds {limit}: beyond {limit // 2} replaced images none is possible.",
            f"Bands: {confidence:.0%} over the test images.",
        ]
    )


def _count_poisons(axes: Axes, numbers: pd.Series) -> None:
    """An axis of numbers of poisoned images that shows 0 and is logarithmic beyond the smallest other one."""
    ticks = sorted(int(number) for number in numbers.unique())
    axes.set_xscale("symlog", linthresh=next((tick for tick in ticks if tick), 1))
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("poisoned training images")


def greedy(attacks: pd.DataFrame, k: int, confidence: float) -> tuple[Figure, str]:
    """Certified accuracy, and accuracy under a real attack on each test image by itself, against the number of poisons.

    attacks: see `attacks.greedy.attack_points`; all images in it were predicted right before.
    """
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    n = len(attacks)
    poisons = attacks["poisons"].astype("Float64").fillna(np.inf).to_numpy(np.float64)
    found = np.isfinite(poisons)
    radii = np.arange(int(max(attacks["radius"].max() + 2, *(poisons[found] + 2), 2)))
    certified = np.array([(attacks["radius"] >= r).sum() for r in radii])
    standing = np.array([(poisons > r).sum() for r in radii])
    for counts, label, colour in (
        (certified, "certified", COLOURS["dpa"]),
        (standing, "real attack", COLOURS["runoff"]),
    ):
        low, high = clopper_pearson(counts, n, confidence)
        axes.step(radii, counts / n, where="post", color=colour, label=label)
        axes.fill_between(radii, low, high, step="post", color=colour, alpha=0.12, linewidth=0)
    axes.fill_between(radii, certified / n, standing / n, step="post", color="#999999", alpha=0.2, label="unknown")
    axes.set(xlabel="poisoned training samples", ylabel="share of attacked test images still right", ylim=(0, 1.02))
    axes.legend()
    needed = (
        f"{np.median(poisons[found]):g} where an attack was found ({found.sum()} of {n})"
        if found.any()
        else "none found"
    )
    return figure, (
        f"DPA with k = {k}: {n} test images, each attacked by itself by an attacker who knows all votes, retrains each"
        f" base classifier it poisons and picks the partitions that pay most. Median radius"
        f" {attacks['radius'].median():g}; median number of poisons a real attack needed: {needed}."
        " Between the curves nothing is known."
        f" Bands: {confidence:.0%} over these test images."
    )
