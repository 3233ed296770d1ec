"""Write what the run was made with, for the report's first page."""

from mithridate.artefacts import read_provenance, write_bytes
from mithridate.job import logged

with logged(snakemake.log[0]):
    lines = [f":{key}: {value}" for key, value in read_provenance(snakemake.input[0]).items()]
    write_bytes(snakemake.output[0], ("\n".join(lines) + "\n").encode())
