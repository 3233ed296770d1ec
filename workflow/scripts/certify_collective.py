"""How many test images one attack can change at once, for several sizes of attack."""

import pandas as pd

from mithridate.artefacts import write_csv
from mithridate.certify.collective import collective
from mithridate.certify.methods import check_disjoint
from mithridate.job import logged
from mithridate.options.dpa import CollectiveOptions
from mithridate.scoring.files import open_scores

with logged(snakemake.log[0]), open_scores(snakemake.input.scores) as scores:
    limits = CollectiveOptions(**snakemake.params.options).model_dump()
    radii = limits.pop("radii")
    check_disjoint("collective", scores.shifts, snakemake.input.scores)
    bounds = collective(scores.votes(), scores.labels, scores.classes, radii, **limits)
    write_csv(snakemake.output[0], pd.DataFrame(bounds))
