"""Train one classifier on the whole training set and write what it says of clean and triggered test images."""

from pathlib import Path

from mithridate import device
from mithridate.artefacts import write_csv
from mithridate.data.dataset import load_header, load_images, load_labels, load_sums
from mithridate.data.partition import make_subsets
from mithridate.job import logged
from mithridate.options.dpa import ScoringOptions
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.scoring.single import predictions
from mithridate.training.family import train_family
from mithridate.training.inputs import Inputs, recipe_for
from mithridate.training.slices import write_slice

with logged(snakemake.log[0]):
    params, data = snakemake.params, snakemake.input.data
    device.prepare(params.device)
    header = load_header(data)
    images, labels = load_images(data, "train"), load_labels(data, "train")
    subsets = make_subsets(images, labels, 1, scale=header.scale, sums=load_sums(data), sha256=header.sha256)
    how = {"model": params.single["model"], "seed": params.seed, "device": params.device}
    recipe = recipe_for(header, params.single["training"], **how)
    progress = Progress("classifiers trained on all data", 1)
    inputs = Inputs(header, subsets, data)
    family = train_family(inputs.members([0]), recipe, checkpoints=Path("results/checkpoints"), progress=progress)
    progress.finish()
    provenance = gather(snakemake.config, **device.describe(params.device))
    write_slice(snakemake.output.model, family, recipe, provenance)
    shown = {"": data, **{Path(path).stem: path for path in snakemake.input.triggered}}
    tests = {name: (load_images(path, "test"), load_labels(path, "test")) for name, path in shown.items()}
    table = predictions(family, subsets, recipe, tests, ScoringOptions())
    write_csv(snakemake.output.predictions, table)
