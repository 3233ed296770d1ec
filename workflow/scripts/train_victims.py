"""Train one procedure's victims, one per seed, on the clean or a poisoned training set."""

from dataclasses import replace
from pathlib import Path

from mithridate import device
from mithridate.attacks.poisons import load_poison
from mithridate.attacks.training_part import training_part
from mithridate.data.dataset import load_header, load_images, load_labels, load_val_index
from mithridate.job import logged
from mithridate.options.smoothing import CONSTANTS
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.training.inputs import recipe_for
from mithridate.training.slices import write_slice
from mithridate.training.victims import noising, train_victims

with logged(snakemake.log[0]):
    params, wildcards, data = snakemake.params, snakemake.wildcards, snakemake.input.data
    device.prepare(params.device)
    header, procedure = load_header(data), wildcards.procedure
    poison = load_poison(snakemake.input.poison[0], header.sha256) if snakemake.input.poison else None
    known = load_images(data, "train"), load_labels(data, "train"), load_val_index(data)
    images, labels = training_part(*known, poison, scale=header.scale, quantise=params.quantised)
    how = {"model": params.model, "seed": params.seed, "device": params.device}
    how["noising"] = noising(procedure, float(wildcards.noise), CONSTANTS[procedure](**params.constants))
    recipe = recipe_for(replace(header, scale=1.0), params.training, **how)  # images are in [0, 1] already
    progress = Progress(f"victims trained ({procedure}, {wildcards.training_set})", params.seeds)
    checkpoints = Path("results/checkpoints")
    family = train_victims(images, labels, params.seeds, recipe, checkpoints=checkpoints, progress=progress)
    progress.finish()
    write_slice(snakemake.output[0], family, recipe, gather(snakemake.config, **device.describe(params.device)))
