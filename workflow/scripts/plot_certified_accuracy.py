"""Draw certified accuracy against radius."""

from mithridate.artefacts import read_csv
from mithridate.job import logged
from mithridate.pictures.dpa import certified_accuracy
from mithridate.pictures.style import save

with logged(snakemake.log[0]):
    curve = read_csv(snakemake.input.cert)
    save(
        certified_accuracy(curve, snakemake.params.confidence),
        snakemake.output.picture,
        snakemake.output.caption,
    )
