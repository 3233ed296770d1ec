"""Certified accuracy and average radius of all victims, and how far poisoning makes the latter fall."""

import pandas as pd

from mithridate.artefacts import read_csv, write_csv
from mithridate.certify.smoothing_results import Certified, claims, tabulate
from mithridate.job import logged
from mithridate.options.smoothing import SmoothingOptions
from mithridate.options.smoothing_runs import victims

with logged(snakemake.log[0]):
    params, options = snakemake.params, SmoothingOptions(**snakemake.params.smoothing)
    files, asked = list(snakemake.input.certificates), victims(options)
    blocks = len(files) // len(asked)
    runs = [
        Certified(victim, pd.concat([read_csv(file) for file in files[start : start + blocks]], ignore_index=True))
        for victim, start in zip(asked, range(0, len(files), blocks), strict=True)
    ]
    for path, make in ((snakemake.output.cert, tabulate), (snakemake.output.claims, claims)):
        table = make(runs, options, params.confidence)
        table.insert(0, "dataset", params.dataset)
        write_csv(path, table)
