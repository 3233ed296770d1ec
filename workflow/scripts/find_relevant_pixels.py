"""Find out by layer-wise relevance propagation which pixels the target looks at, class by class."""

from mithridate import device
from mithridate.adversarial.relevance import class_relevance
from mithridate.artefacts import write_hdf5
from mithridate.data.dataset import load_header, load_images, load_labels
from mithridate.job import logged
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.repair.networks import read_network

with logged(snakemake.log[0]):
    params, data = snakemake.params, snakemake.input.data
    device.prepare(params.device)
    header, labels = load_header(data), load_labels(data, "train")
    network, kind = read_network(snakemake.input.target, params.device, own=params.model)
    progress = Progress("images explained", len(labels))
    how = {"scale": header.scale, "device": params.device, "progress": progress}
    relevance, counts = class_relevance(network, load_images(data, "train"), labels, kind.num_classes, **how)
    progress.finish()
    provenance = gather(snakemake.config, **device.describe(params.device))
    write_hdf5(snakemake.output[0], {"relevance": relevance, "counts": counts}, {}, provenance)
