"""Draw the certified accuracy of one procedure's victims of clean and poisoned training sets."""

from mithridate.artefacts import read_csv
from mithridate.job import logged
from mithridate.pictures.smoothing import certified_accuracy
from mithridate.pictures.style import save

with logged(snakemake.log[0]):
    params, wildcards = snakemake.params, snakemake.wildcards
    which = wildcards.procedure, float(wildcards.noise), params.model
    picture = certified_accuracy(read_csv(snakemake.input.cert), *which, params.confidence)
    save(picture, snakemake.output.picture, snakemake.output.caption)
