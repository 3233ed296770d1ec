"""Join the slices' scores in the order of subset numbers."""

from mithridate.artefacts import read_provenance
from mithridate.data.dataset import load_labels
from mithridate.data.partition import load_subsets
from mithridate.job import logged
from mithridate.provenance import gather
from mithridate.scoring.files import gather_slices

with logged(snakemake.log[0]):
    subsets = load_subsets(snakemake.input.subsets)
    devices = sorted({read_provenance(path)["device"] for path in snakemake.input.scores})
    gather_slices(
        snakemake.input.scores,
        load_labels(snakemake.input.data, "test"),
        subsets.sizes,
        snakemake.output[0],
        gather(snakemake.config, device=", ".join(devices)),
    )
