"""Move the target class's pixels by plus or minus epsilon at random."""

from mithridate.attacks.poisons import random_poison, save_poison
from mithridate.attacks.training_part import attack_data_of
from mithridate.job import logged
from mithridate.provenance import gather

with logged(snakemake.log[0]):
    data = attack_data_of(snakemake.input.data, int(snakemake.wildcards.target_class))
    poison = random_poison(data, epsilon=float(snakemake.wildcards.epsilon), seed=snakemake.params.seed)
    save_poison(snakemake.output[0], poison, data.images, gather(snakemake.config))
