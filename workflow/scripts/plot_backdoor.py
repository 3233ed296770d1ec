"""Draw an attack: how often it succeeds, what is certified against it, and certified accuracy against radius."""

from mithridate.artefacts import read_csv
from mithridate.job import logged
from mithridate.pictures.backdoor import certified_accuracy, certified_and_empirical, success_rate
from mithridate.pictures.style import save

with logged(snakemake.log[0]):
    params, out = snakemake.params, snakemake.output
    matrix = read_csv(snakemake.input.matrix)
    matrix = matrix[matrix["attack"] == snakemake.wildcards.attack]
    curve = read_csv(snakemake.input.cert)
    save(success_rate(matrix, params.confidence), out.success_rate, out.success_rate_caption)
    compared = certified_and_empirical(matrix, params.confidence)
    save(compared, out.certified_and_empirical, out.certified_and_empirical_caption)
    for training in ("clean", "poisoned"):
        for shown in ("clean", "triggered"):
            name = f"certified_{training}_{shown}"
            picture = certified_accuracy(curve, params.variants, training, shown, params.trigger)
            save(picture, out[name], out[f"{name}_caption"])
