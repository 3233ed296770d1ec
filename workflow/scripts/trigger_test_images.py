"""Put a trigger on every test image."""

from mithridate.data.dataset import load
from mithridate.data.poison import save_triggered
from mithridate.job import logged
from mithridate.options.attacks import AttackOptions
from mithridate.provenance import gather

with logged(snakemake.log[0]):
    params, dataset = snakemake.params, load(snakemake.input.data)
    save_triggered(snakemake.output[0], dataset, AttackOptions(**params.attack), gather(snakemake.config), params.key)
