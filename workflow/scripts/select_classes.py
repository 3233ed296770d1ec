"""Restrict a data set to the classes of RAB's task, numbered anew in their order."""

from mithridate.data.classes import select_classes
from mithridate.data.dataset import load, save
from mithridate.job import logged
from mithridate.provenance import gather

with logged(snakemake.log[0]):
    params, dataset = snakemake.params, load(snakemake.input.data)
    task = dataset if params.classes is None else select_classes(dataset, params.classes)
    save(snakemake.output[0], task, params.validation_fraction, params.seed, gather(snakemake.config))
