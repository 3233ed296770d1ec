"""Hardware, versions and time of one part of the run."""

import json

from mithridate.artefacts import write_checked
from mithridate.findings.runs import describe
from mithridate.job import logged
from mithridate.report import lineage

with logged(snakemake.log[0]):
    params, part = snakemake.params, snakemake.wildcards.part
    benchmarks = [job.benchmark for job in lineage.jobs(snakemake.input) if job.benchmark.is_file()]
    run = describe("results", part, params.configuration, params.changed, params.command, benchmarks)
    write_checked(snakemake.output[0], (json.dumps(run, indent=1, ensure_ascii=False) + "\n").encode())
