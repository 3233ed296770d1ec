"""Poison the target class's images against one training procedure (ApproxGrad)."""

from pathlib import Path

from mithridate import device
from mithridate.attacks.bilevel import Attacker
from mithridate.attacks.poisons import save_poison
from mithridate.attacks.surrogate import Setting
from mithridate.attacks.training_part import attack_data_of
from mithridate.job import logged
from mithridate.options.smoothing import CONSTANTS, BilevelOptions
from mithridate.progress import Progress
from mithridate.provenance import gather

with logged(snakemake.log[0]):
    params, wildcards = snakemake.params, snakemake.wildcards
    device.prepare(params.device)
    data = attack_data_of(snakemake.input.data, int(wildcards.target_class))
    options, procedure = BilevelOptions(**params.attack), wildcards.procedure
    how = {"options": options, "constants": CONSTANTS[procedure](**params.constants), "device": params.device}
    sigma, epsilon = float(wildcards.noise), float(wildcards.epsilon)
    setting = Setting(procedure, params.model, sigma, epsilon, params.seed, **how)
    progress = Progress(f"epochs of the attack on {procedure}", options.epochs)
    poison = Attacker(data, setting, Path("results/checkpoints")).attack(progress)
    progress.finish()
    provenance = gather(snakemake.config, **device.describe(params.device))
    save_poison(snakemake.output[0], poison, data.images, provenance)
