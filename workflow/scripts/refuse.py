"""Say why a table cannot be made with this configuration."""

from mithridate.errors import InputError
from mithridate.job import logged

with logged(snakemake.log[0]):
    raise InputError(snakemake.params.reason)
