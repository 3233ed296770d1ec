"""Train one loss's generators, one per class, against the target."""

from pathlib import Path

from mithridate import device
from mithridate.adversarial.generators import save_generators, step_count, train_generators
from mithridate.adversarial.losses import make_loss
from mithridate.adversarial.relevance import relevant_pixels
from mithridate.adversarial.suspicious import suspicious_masks
from mithridate.adversarial.targets import repeat_seed
from mithridate.artefacts import read_csv, read_hdf5, write_csv
from mithridate.data.dataset import load_pixels
from mithridate.job import logged
from mithridate.options.dgn import GeneratorOptions
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.repair.networks import read_network
from mithridate.training.snapshot import Snapshot

with logged(snakemake.log[0]):
    params, given, loss = snakemake.params, snakemake.input, snakemake.wildcards.loss
    device.prepare(params.device)
    options = GeneratorOptions(**params.loss["options"])
    images, labels = load_pixels(given.data, "train")
    target, kind = read_network(given.target, params.device, own=params.model)
    masks = {}
    if loss == "lrp":
        masks["relevant"] = relevant_pixels(read_hdf5(given.masks[0], "relevance")["relevance"], options.k)
    elif loss == "suspiciousness":
        masks["suspicious"] = suspicious_masks(read_csv(given.masks[0]))
    progress = Progress(f"steps of {loss} generators", step_count(labels, kind.num_classes, options) * kind.num_classes)
    how = {"name": loss, "num_classes": kind.num_classes, "device": params.device, "progress": progress}
    how |= {"seed": repeat_seed(params.seed, int(snakemake.wildcards.repeat)), "together": params.device == "cuda"}
    snapshot = Snapshot.of_job(snakemake, Path("results/checkpoints"))
    of = lambda classes: make_loss(options, target, classes, params.loss["epsilon"], **masks)  # noqa: E731
    made = train_generators(images, labels, of, options, snapshot=snapshot, **how)
    progress.finish()
    save_generators(snakemake.output.generators, made, gather(snakemake.config, **device.describe(params.device)))
    write_csv(snakemake.output.history, made.history)
    snapshot.remove()
