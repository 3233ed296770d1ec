"""Draw what every defence leaves of every trigger, and what it costs on clean images."""

from mithridate.artefacts import read_csv
from mithridate.job import logged
from mithridate.pictures.badnet import defences
from mithridate.pictures.style import save

with logged(snakemake.log[0]):
    picture = defences(read_csv(snakemake.input.table), snakemake.params.confidence)
    save(picture, snakemake.output.picture, snakemake.output.caption)
