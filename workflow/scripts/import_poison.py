"""Read a user's own poisoned training set."""

import numpy as np

from mithridate.attacks.exchange import own_poison
from mithridate.attacks.poisons import save_poison
from mithridate.data.dataset import load_header, load_images, load_labels, load_val_index
from mithridate.errors import InputError
from mithridate.job import logged
from mithridate.provenance import gather

with logged(snakemake.log[0]):
    if snakemake.params.own is None:
        raise InputError("smoothing.own is null: give the folder of a poisoned training set.")
    params, wildcards, data = snakemake.params, snakemake.wildcards, snakemake.input.data
    header, images = load_header(data), load_images(data, "train")
    known = {"scale": header.scale, "sha256": header.sha256, "seed": params.seed}
    asked = {"target": int(wildcards.target_class), "epsilon": float(wildcards.epsilon)}
    poison = own_poison(params.own, images, load_labels(data, "train"), load_val_index(data), **known, **asked)
    clean = images[poison.index] * np.float32(header.scale)
    save_poison(snakemake.output[0], poison, clean, gather(snakemake.config))
