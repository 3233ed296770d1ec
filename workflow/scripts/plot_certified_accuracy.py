"""Draw certified accuracy against radius."""

import pandas as pd

from mithridate.job import logged
from mithridate.pictures.dpa import certified_accuracy
from mithridate.pictures.style import save

with logged(snakemake.log[0]):
    curve = pd.read_csv(snakemake.input.cert)
    save(
        certified_accuracy(curve, snakemake.params.confidence),
        snakemake.output.picture,
        snakemake.output.caption,
    )
