"""Write what the run was: its configuration beside the defaults, where its artefacts come from, what its jobs cost."""

from mithridate.artefacts import write_csv
from mithridate.atomic import write_bytes
from mithridate.data.dataset import load_header
from mithridate.job import logged
from mithridate.options.root import parse
from mithridate.report import configuration, front, lineage, origins, times

with logged(snakemake.log[0]):
    jobs = lineage.jobs(snakemake.input.tables)
    changes, made, cost = (
        configuration.table(parse(snakemake.params.config)),
        origins.gathered(jobs),
        times.by_rule(jobs),
    )
    headers = [load_header(path) for path in snakemake.input.data]
    text = front.run_text(headers, changes, made, cost, snakemake.params.reported)
    for table, path in ((changes, "configuration"), (made, "origins"), (cost, "times")):
        write_csv(snakemake.output[path], table)
    write_bytes(snakemake.output.text, text.encode())
