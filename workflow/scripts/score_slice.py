"""Score every test image with the members of one slice."""

from mithridate import device
from mithridate.data.dataset import load_test
from mithridate.job import logged
from mithridate.options.dpa import ScoringOptions
from mithridate.provenance import gather
from mithridate.scoring.matrix import score_slice

with logged(snakemake.log[0]):
    device.prepare()
    options = ScoringOptions(**snakemake.params.scoring)
