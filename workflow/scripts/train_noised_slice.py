"""Train one slice of RAB's networks, each on a noised copy of the training set."""

from dataclasses import replace
from pathlib import Path

from mithridate import device
from mithridate.data.dataset import load_header, load_images, load_labels
from mithridate.job import logged
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.training.family import train_family
from mithridate.training.inputs import recipe_for
from mithridate.training.noised import noised_copies
from mithridate.training.slices import slice_members, write_slice

with logged(snakemake.log[0]):
    params, wildcards, data = snakemake.params, snakemake.wildcards, snakemake.input.data
    device.prepare(params.device)
    header = load_header(data)
    how = {"model": params.model, "seed": params.seed, "device": params.device}
    recipe = recipe_for(replace(header, scale=1.0), params.training, **how)  # noised images are in [0, 1] already
    numbers = slice_members(int(wildcards.models), recipe.width, wildcards.slice)
    copies = noised_copies(
        numbers,
        load_images(data, "train"),
        load_labels(data, "train"),
        scale=header.scale,
        sigma=float(wildcards.sigma),
        seed=params.seed,
        device=params.device,
    )
    progress = Progress(f"slice {wildcards.slice}: noised networks trained", len(numbers))
    family = train_family(copies, recipe, checkpoints=Path("results/checkpoints"), progress=progress)
    progress.finish()
    write_slice(snakemake.output[0], family, recipe, gather(snakemake.config, **device.describe(params.device)))
