"""Keep what the run found in docs/results."""

from mithridate.findings.record import record
from mithridate.job import logged

with logged(snakemake.log[0]):
    print(f"recorded in {record('results', snakemake.params.name, parts=snakemake.params.parts)}")
