"""Draw certificates beside what real attacks needed."""

from mithridate.artefacts import read_csv
from mithridate.job import logged
from mithridate.pictures.backdoor import greedy
from mithridate.pictures.style import save

with logged(snakemake.log[0]):
    attacks, k = read_csv(snakemake.input.attacks), int(snakemake.wildcards.k)
    picture = greedy(attacks, k, snakemake.params.confidence)
    save(picture, snakemake.output.picture, snakemake.output.caption)
