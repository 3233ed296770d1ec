"""Train one slice of a family of base classifiers."""

from pathlib import Path

from mithridate import device
from mithridate.job import logged
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.training.family import train_family
from mithridate.training.inputs import open_inputs, recipe_for
from mithridate.training.slices import boost_of, read_known, slice_members, write_slice

with logged(snakemake.log[0]):
    device.prepare(snakemake.params.device)
    params, name = snakemake.params, snakemake.wildcards.slice
    inputs = open_inputs(snakemake.input.data, snakemake.input.subsets)
    how = {"model": params.model, "seed": params.seed, "device": params.device}
    recipe = recipe_for(inputs.header, params.training, **how)
    numbers = slice_members(len(inputs.subsets.indices), recipe.width, name)
    progress = Progress(f"slice {name}: base classifiers trained", len(numbers))
    family = train_family(
        inputs.members(numbers),
        recipe,
        boost=boost_of(snakemake.wildcards.boost),
        known=read_known(snakemake.input.get("known", [])),
        checkpoints=Path("results/checkpoints"),
        progress=progress,
    )
    progress.finish()
    write_slice(snakemake.output[0], family, recipe, gather(snakemake.config, **device.describe(params.device)))
