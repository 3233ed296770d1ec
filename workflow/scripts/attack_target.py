"""Attack the target on the training or test images by FGSM or PGD."""

import time

from mithridate import device
from mithridate.adversarial.examples import make_examples, save_examples
from mithridate.adversarial.gradient_attacks import attack, method
from mithridate.adversarial.targets import repeat_seed
from mithridate.adversarial.toolbox import import_art
from mithridate.data.dataset import load_pixels
from mithridate.errors import InputError
from mithridate.job import logged
from mithridate.options.dgn import GradientAttackOptions
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.repair.networks import read_network

with logged(snakemake.log[0]):
    params, wildcards, options = snakemake.params, snakemake.wildcards, GradientAttackOptions(**snakemake.params.attack)
    device.prepare(params.device)
    if wildcards.part == "wrong":
        raise InputError(f"{wildcards.gradient} has no generator of a wrong class: ask for train.h5 or test.h5.")
    images, labels = load_pixels(snakemake.input.data, wildcards.part)
    network, _ = read_network(snakemake.input.target, params.device, own=params.model)
    import_art()  # which takes longer than many an attack
    progress, start = Progress(f"images attacked by {wildcards.gradient}", len(images)), time.perf_counter()
    seed = repeat_seed(params.seed, int(wildcards.repeat))
    how = {"epsilon": params.epsilon, "seed": seed, "device": params.device, "progress": progress}
    truth = labels if options.true_labels else None
    made = attack(network, images, truth, method(wildcards.gradient, options), **how)
    how = {"attack": wildcards.gradient, "mode": "transfer", "epsilon": params.epsilon, "bounded": True}
    how |= {"true_label": options.true_labels, "seconds": time.perf_counter() - start}
    progress.finish()
    provenance = gather(snakemake.config, **device.describe(params.device))
    save_examples(snakemake.output[0], make_examples(images, labels, made, **how), images, provenance)
