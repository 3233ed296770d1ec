"""Draw what the jobs of each rule cost."""

from mithridate.artefacts import read_csv
from mithridate.job import logged
from mithridate.pictures.style import save
from mithridate.pictures.times import times

with logged(snakemake.log[0]):
    save(times(read_csv(snakemake.input.times)), snakemake.output.picture, snakemake.output.caption)
