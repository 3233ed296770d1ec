"""Let RAB's networks vote on clean and triggered test images, each under its own noise."""

from pathlib import Path

from mithridate import device
from mithridate.artefacts import write_hdf5
from mithridate.data.dataset import load_header, load_images, load_labels
from mithridate.job import logged
from mithridate.options.attacks import CLEAN
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.scoring.rab import Voters
from mithridate.training.slices import read_slices

with logged(snakemake.log[0]):
    params, data, sigma = snakemake.params, snakemake.input.data, float(snakemake.wildcards.sigma)
    device.prepare(params.device)
    header = load_header(data)
    family, recipe = read_slices(snakemake.input.models)
    setting = {"scale": header.scale, "num_classes": header.num_classes, "batch_size": params.batch_size}
    shown = {CLEAN: data, **{Path(path).stem: path for path in snakemake.input.triggered}}
    voters = Voters(family, header.shape, sigma=sigma, model=recipe["model"], device=params.device, **setting)
    progress = Progress("noised networks asked", len(family.subset_ids) * len(shown))
    votes = {f"votes/{name}": voters.ask(load_images(path, "test"), progress) for name, path in shown.items()}
    progress.finish()
    arrays = {"labels": load_labels(data, "test"), **votes}
    provenance = gather(snakemake.config, **device.describe(params.device))
    write_hdf5(snakemake.output[0], arrays, {"sigma": sigma, "sha256": header.sha256}, provenance)
