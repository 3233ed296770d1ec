"""Read the configured data set and write it as one HDF5 file."""

from mithridate.data.dataset import save
from mithridate.data.sources import load_source
from mithridate.job import logged
from mithridate.options.data import DataOptions
from mithridate.provenance import gather

with logged(snakemake.log[0]):
    options = DataOptions(**snakemake.params.data, root=snakemake.config["data"]["root"])
    dataset = load_source(snakemake.wildcards.dataset, options)
    save(snakemake.output[0], dataset, options.validation_fraction, snakemake.params.seed, gather(snakemake.config))
