"""Move every pixel of the test images up or down by ε at random: the control."""

import time

from mithridate.adversarial.examples import make_examples, save_examples
from mithridate.adversarial.gradient_attacks import random_signs
from mithridate.adversarial.targets import repeat_seed
from mithridate.data.dataset import load_pixels
from mithridate.job import logged
from mithridate.provenance import gather

with logged(snakemake.log[0]):
    params, (images, labels) = snakemake.params, load_pixels(snakemake.input.data, "test")
    start, seed = time.perf_counter(), repeat_seed(params.seed, int(snakemake.wildcards.repeat))
    made = random_signs(images, params.epsilon, seed, "test")
    how = {"attack": "random", "mode": "random", "epsilon": params.epsilon, "true_label": False, "bounded": True}
    examples = make_examples(images, labels, made, seconds=time.perf_counter() - start, **how)
    save_examples(snakemake.output[0], examples, images, gather(snakemake.config))
