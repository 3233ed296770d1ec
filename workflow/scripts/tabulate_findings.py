"""Published numbers and claims beside ours."""

from pathlib import Path

from mithridate.artefacts import read_json, write_csv
from mithridate.findings.compare import findings
from mithridate.findings.record import load_tables
from mithridate.findings.settings import papers
from mithridate.job import logged

with logged(snakemake.log[0]):
    given = snakemake.input
    runs = [read_json(path) for path in given.runs]
    table = findings(load_tables(Path("results"), runs), runs, papers(Path(given.papers[0]).parent))
    write_csv(snakemake.output[0], table)
    print(table.groupby(["part", "kind", "verdict"], sort=False).size().to_string())
