"""The picture of RAB's certificates."""

import pandas as pd

from mithridate.pictures.style import COLOURS, LINES, NAMES, Figure, plt


def certified_accuracy(curve: pd.DataFrame, confidence: float) -> tuple[Figure, str]:
    """Certified accuracy against radius for one training set and kind of test images, every sigma and bound; a vertical
    line where the attack on the training set stands."""
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    if curve.empty:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no attack, so no triggered test images", ha="center", transform=axes.transAxes)
        return figure, "No attack is configured (rab.attacks), so there are no triggered test images."
    sentences = []
    for (sigma, bound), own in curve.groupby(["sigma", "bound"], sort=False):
        bound, rows = str(bound), own.sort_values("radius")
        style = LINES[list(curve["sigma"].unique()).index(sigma) % len(LINES)]
        label = f"σ = {sigma:g}, {NAMES[bound]}"
        axes.plot(
            rows["radius"], rows["certified_accuracy"], f"o{style}", color=COLOURS[bound], label=label, markersize=4,
            drawstyle="steps-pre",  # between two radii at least what is certified at the larger one
        )  # fmt: skip
        low, high = rows["ci_low"], rows["ci_high"]
        axes.fill_between(rows["radius"], low, high, step="pre", color=COLOURS[bound], alpha=0.1, linewidth=0)
        first = rows.iloc[0]
        sentences.append(f"{label}: {first['certified_accuracy']:.1%} at radius {first['radius']:g}.")
    strength = float(curve["attack_strength"].iloc[0])
    if strength:
        axes.axvline(strength, color="black", linewidth=1, label=f"this attack: {strength:.2f}")
        vacuous = bool(curve.loc[curve["radius"] == strength, "vacuous"].all())
        sentences.append(
            f"The attack has strength {strength:.2f}"
            + (
                ": beyond what this many networks could certify at any vote, so nothing is said of it."
                if vacuous
                else "."
            )
        )
    limit = float(curve["largest_radius"].max())
    end = max(1.5 * limit, 1.1 * strength) or float(curve["radius"].max())
    axes.axvspan(limit, end, color="#999999", alpha=0.2, label="vacuous")
    axes.set(xlabel="radius: L2 norm over all trigger patterns together", ylabel="certified accuracy", ylim=(0, 1.02))
    axes.set_xlim(0, end)
    axes.legend(fontsize=9)
    n = int(curve["n_test"].iloc[0])
    return figure, " ".join(
        [
            *sentences,
            "Between two radii at least what is certified at the larger one; grey: no vote could certify it.",
            f"Bands: {confidence:.0%} over {n} test images at each radius.",
        ]
    )
