"""Hardware, versions and time of one part of the run."""

import json

from mithridate.artefacts import write_checked
from mithridate.findings.runs import describe
from mithridate.job import logged
from mithridate.report import lineage
from mithridate.report.origins import provenance

with logged(snakemake.log[0]):
    params, part = snakemake.params, snakemake.wildcards.part
    jobs = lineage.jobs(snakemake.input)
    known = {"benchmarks": [job.benchmark for job in jobs if job.benchmark.is_file()]}
    known["artefacts"] = [path for job in jobs for path in job.outputs if provenance(path)]
    run = describe("results", part, params.configuration, params.changed, params.command, **known)
    write_checked(snakemake.output[0], (json.dumps(run, indent=1, ensure_ascii=False) + "\n").encode())
