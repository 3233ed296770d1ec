"""Write the findings for the report: its first page, and a table to sort."""

from pathlib import Path

from mithridate.artefacts import read_csv
from mithridate.atomic import write_bytes
from mithridate.job import logged
from mithridate.report.findings import first_page, sortable
from mithridate.sortable import page

with logged(snakemake.log[0]):
    given, out = snakemake.input, snakemake.output
    findings, *tables = (
        read_csv(path, keep_default_na=False, na_values=[""]) for path in [given.findings, *given.tables]
    )
    named = {Path(path).stem: table for path, table in zip(given.tables, tables, strict=True)}
    write_bytes(out.text, first_page(findings, named, snakemake.params.parts).encode())
    write_bytes(out.page, page(sortable(findings), "Findings beside the papers").encode())
