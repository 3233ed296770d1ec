"""Who is robust against whom."""

from mithridate.adversarial.table import tabulate
from mithridate.artefacts import read_csv, write_csv
from mithridate.job import logged

with logged(snakemake.log[0]):
    params = snakemake.params
    runs = [read_csv(path, keep_default_na=False, na_values=[""]) for path in snakemake.input.attacked]
    write_csv(snakemake.output[0], tabulate(runs, params.dataset, params.confidence))
