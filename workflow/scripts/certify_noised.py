"""Certify RAB's votes: one row per test image, kind of test images, and bound."""

import pandas as pd

from mithridate.artefacts import open_hdf5, read_attributes, write_csv
from mithridate.certify.rab import example_rows
from mithridate.job import logged
from mithridate.options.attacks import CLEAN

with logged(snakemake.log[0]), open_hdf5(snakemake.input.votes, "labels", "votes") as file:
    params, sigma = snakemake.params, read_attributes(snakemake.input.votes)["sigma"]
    tables = []
    for name, votes in file["votes"].items():
        for bound in params.bounds:
            rows = example_rows(votes[()], file["labels"][()], sigma=sigma, alpha=params.alpha, bound=bound)
            rows.insert(0, "trigger", "" if name == CLEAN else name)
            tables.append(rows)
    write_csv(snakemake.output[0], pd.concat(tables, ignore_index=True))
