"""Make a table one sortable HTML page."""

from pathlib import Path

from mithridate.artefacts import read_csv
from mithridate.atomic import write_bytes
from mithridate.job import logged
from mithridate.sortable import page

with logged(snakemake.log[0]):
    table = read_csv(snakemake.input.table, keep_default_na=False, na_values=[""])  # "null" is a value
    write_bytes(snakemake.output[0], page(table, Path(snakemake.input.table).name).encode())
