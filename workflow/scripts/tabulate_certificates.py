"""Certified accuracy for every radius, and a summary, of all numbers of partitions."""

import pandas as pd

from mithridate.artefacts import write_csv
from mithridate.certify.tables import curve, summary
from mithridate.job import logged
from mithridate.options.published import recipe_name
from mithridate.options.training import TrainingOptions
from mithridate.summary import text

with logged(snakemake.log[0]):
    params = snakemake.params
    recipe = recipe_name(params.dataset, params.model, params.hash, TrainingOptions(**params.training))
    curves, summaries = [], []
    for k, certificates, members in zip(params.k, snakemake.input.certificates, snakemake.input.members, strict=True):
        rows = pd.read_csv(certificates)
        run = {"dataset": params.dataset, "variant": "clean", "k": k, "confidence": params.confidence}
        curves.append(curve(rows, **run))
        summaries.append(summary(rows, pd.read_csv(members), **run, recipe=recipe))
    write_csv(snakemake.output.cert, pd.concat(curves, ignore_index=True))
    table = pd.concat(summaries, ignore_index=True)
    write_csv(snakemake.output.summary, table)
    print(text(table))
