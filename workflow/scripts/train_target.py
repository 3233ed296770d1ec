"""Train the target, or read a user's own, and make sure that it can classify."""

from pathlib import Path

from mithridate import device
from mithridate.adversarial.target import Target
from mithridate.adversarial.targets import check_target, own_target, repeat_seed
from mithridate.data.dataset import load_header, load_images, load_labels, load_pixels
from mithridate.job import logged
from mithridate.models import generator
from mithridate.options.dgn import TargetOptions
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.repair.networks import Kind, build, state, write_networks
from mithridate.scoring.network import empty_network
from mithridate.training.inputs import recipe_for
from mithridate.training.one import train_one

with logged(snakemake.log[0]):
    params, data, options = snakemake.params, snakemake.input.data, TargetOptions(**snakemake.params.target)
    device.prepare(params.device)
    header, seed = load_header(data), repeat_seed(params.seed, int(snakemake.wildcards.repeat))
    kind = Kind(options.model, header.shape, header.num_classes)
    if snakemake.config["dgn"]["generators"]:  # refused before any work; no parameter, as the target is the same
        generator.build(*kind.shape)
        Target(empty_network(kind.model, kind.shape, kind.num_classes, "cpu"))
    images, labels = load_pixels(data, "train")
    if snakemake.input.own:
        network = own_target(snakemake.input.own[0], kind).to(params.device)
    else:
        recipe = recipe_for(header, options.training.model_dump(), model=options.model, seed=seed, device=params.device)
        progress = Progress("targets trained", 1)
        work = {"key": "dgn.target", "checkpoints": Path("results/checkpoints"), "progress": progress}
        tensors = train_one(load_images(data, "train"), load_labels(data, "train"), 0, recipe, **work)
        network = build(kind, tensors, params.device)
        progress.finish()
    accuracy = check_target(network, images, labels, kind.num_classes, params.device)
    print(f"the target is right on {accuracy:.2%} of the training images")
    made_by = gather(snakemake.config, **device.describe(params.device))
    write_networks(snakemake.output[0], {"": state(network)}, kind, made_by)
