"""Repair a network in every way, from clean held-out images alone."""

import numpy as np

from mithridate import device
from mithridate.artefacts import write_csv
from mithridate.data.faces import open_faces
from mithridate.job import logged
from mithridate.options.badnet import BadnetOptions
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.repair.networks import read_network, state, write_networks
from mithridate.repair.repairs import held_out_accuracy, repair, repair_names
from mithridate.repair.split import split_held_out

with logged(snakemake.log[0]):
    params, options = snakemake.params, BadnetOptions(**snakemake.params.repair)
    device.prepare(params.device)
    network, kind = read_network(snakemake.input.network, params.device, own=params.model)
    with open_faces(snakemake.input.held_out, kind.shape, kind.num_classes) as faces:
        images, labels = faces.images(slice(None)), faces.labels
    accuracy = held_out_accuracy(network, images, labels, kind.num_classes, snakemake.input.held_out, params.device)
    print(f"the suspicious network is right on {accuracy:.2%} of the clean held-out images")
    split = split_held_out(np.arange(len(labels)), options.split, params.seed)
    names = repair_names(options)
    progress = Progress(f"repairs of {snakemake.wildcards.net}", len(names))
    how = {"name": params.name, "seed": params.seed, "device": params.device, "progress": progress}
    made = repair(network, images, labels, split, options, **how)
    progress.finish()
    provenance = gather(snakemake.config, seconds=made.seconds, **device.describe(params.device))
    tensors = {name: state(own) for name, own in made.networks.items()}
    write_networks(snakemake.output.repairs, tensors, kind, provenance, held_out_accuracy=accuracy)
    write_networks(snakemake.output.delivered, {"": tensors[names[-1]]}, kind, provenance, repair=names[-1])
    write_csv(snakemake.output.curve, made.curve)
