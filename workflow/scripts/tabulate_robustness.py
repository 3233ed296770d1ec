"""Who is robust against whom."""

import pandas as pd

from mithridate.adversarial.table import tabulate
from mithridate.artefacts import write_csv
from mithridate.job import logged

with logged(snakemake.log[0]):
    params = snakemake.params
    runs = [pd.read_csv(path, keep_default_na=False, na_values=[""]) for path in snakemake.input.attacked]
    write_csv(snakemake.output[0], tabulate(runs, params.dataset, params.confidence))
