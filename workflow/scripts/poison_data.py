"""Make a poisoned variant of a data set."""

from mithridate.data.dataset import load, load_val_index
from mithridate.data.poison import poison, save_poisoned
from mithridate.job import logged
from mithridate.options.attacks import AttackOptions, Variant
from mithridate.provenance import gather

with logged(snakemake.log[0]):
    given, data = snakemake.params.attack, snakemake.input.data
    variant = Variant(AttackOptions(**given["attack"]), given["poisoned"], given["seed"])
    made = poison(load(data), variant, snakemake.params.seed, given["key"])
    save_poisoned(snakemake.output[0], made, load_val_index(data), gather(snakemake.config))
