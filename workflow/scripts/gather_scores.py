"""Join the slices' scores in the order of subset numbers, adding up boost seeds."""

from pathlib import Path

from mithridate.artefacts import read_provenance
from mithridate.data.dataset import load_labels
from mithridate.data.partition import load_subsets
from mithridate.job import logged
from mithridate.options.attacks import CLEAN
from mithridate.provenance import gather
from mithridate.scoring.files import gather_slices

with logged(snakemake.log[0]):
    devices = sorted({read_provenance(path)["device"] for path in snakemake.input.scores})
    gather_slices(
        snakemake.input.scores,
        load_labels(snakemake.input.data, "test"),
        load_subsets(snakemake.input.subsets),
        snakemake.output[0],
        gather(snakemake.config, device=", ".join(devices)),
        Path(snakemake.wildcards.inputs).name or CLEAN,
    )
