"""Certified accuracy for every radius and run, and a summary of the clean runs."""

import pandas as pd

from mithridate.artefacts import read_csv, write_csv
from mithridate.certify.tables import collective_curve, curve, summary
from mithridate.job import logged
from mithridate.summary import text

with logged(snakemake.log[0]):
    params, given = snakemake.params, snakemake.input
    about = {"dataset": params.dataset, "confidence": params.confidence}
    curves, summaries = [], []
    for run, certificates, members in zip(params.runs, given.certificates, given.members, strict=True):
        rows = read_csv(certificates)
        curves.append(curve(rows, **about, **run))
        if run["variant"] == run["inputs"] == "clean":
            own = {key: run[key] for key in ("variant", "k", "d", "seeds")}
            summaries.append(summary(rows, read_csv(members), **about, **own))
    for run, bounds in zip(params.collective, given.collective, strict=True):
        curves.append(collective_curve(read_csv(bounds), dataset=params.dataset, variant="clean", **run))
    write_csv(snakemake.output.cert, pd.concat(curves, ignore_index=True))
    table = pd.concat(summaries, ignore_index=True)
    write_csv(snakemake.output.summary, table)
    print(text(table))
