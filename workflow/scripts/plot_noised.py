"""Draw RAB's certified accuracy for one training set, on clean and on triggered test images."""

from mithridate.artefacts import read_csv
from mithridate.job import logged
from mithridate.pictures.rab import certified_accuracy
from mithridate.pictures.style import save

with logged(snakemake.log[0]):
    curve, out = read_csv(snakemake.input.cert), snakemake.output
    own = curve[curve["variant"] == snakemake.wildcards.rab_variant]
    for shown in ("clean", "triggered"):
        rows = own[own["inputs"] == shown]
        first = rows["attack"].fillna("").unique()[:1]  # networks trained on the clean set are shown every attack's
        picture = certified_accuracy(rows[rows["attack"].fillna("").isin(first)], snakemake.params.confidence)
        save(picture, out[shown], out[f"{shown}_caption"])
