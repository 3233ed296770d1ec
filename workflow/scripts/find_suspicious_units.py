"""Score the target's hidden units by Tarantula: which are active when it is wrong."""

from mithridate import device
from mithridate.adversarial.suspicious import spectra, tabulate
from mithridate.artefacts import write_csv
from mithridate.data.dataset import load_header, load_images, load_labels
from mithridate.job import logged
from mithridate.progress import Progress
from mithridate.repair.networks import read_network

with logged(snakemake.log[0]):
    params, data = snakemake.params, snakemake.input.data
    device.prepare(params.device)
    header, labels = load_header(data), load_labels(data, "train")
    network, kind = read_network(snakemake.input.target, params.device, own=params.model)
    progress = Progress("images shown to the target", len(labels))
    how = {"scale": header.scale, "device": params.device, "progress": progress}
    how["threshold"] = params.how["activation_threshold"]
    found = spectra(network, load_images(data, "train"), labels, kind.num_classes, **how)
    progress.finish()
    write_csv(snakemake.output[0], tabulate(found, params.how["k"]))
