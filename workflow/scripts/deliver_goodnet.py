"""Name the parts of a delivered network and its output rule."""

from mithridate.job import logged
from mithridate.repair.delivered import write_label

with logged(snakemake.log[0]):
    write_label(snakemake.output[0], snakemake.input, snakemake.params.rule)
