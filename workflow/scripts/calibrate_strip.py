"""Choose STRIP's overlays and set its boundary on a network, from clean held-out images alone."""

import time

import numpy as np

from mithridate import device
from mithridate.data.faces import open_faces
from mithridate.job import logged
from mithridate.options.badnet import SplitOptions, StripOptions
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.repair.detector import make_detector, save_detector
from mithridate.repair.networks import read_network
from mithridate.repair.split import split_held_out

with logged(snakemake.log[0]):
    params, start = snakemake.params, time.perf_counter()
    device.prepare(params.device)
    network, kind = read_network(snakemake.input.network, params.device, own=params.model)
    with open_faces(snakemake.input.held_out, kind.shape, kind.num_classes) as faces:
        images = faces.images(slice(None))
    split = split_held_out(np.arange(len(images)), SplitOptions(**params.split), params.seed)
    progress = Progress(f"calibration images for STRIP on {snakemake.wildcards.net}", len(split.calibration))
    how = {"seed": params.seed, "device": params.device, "progress": progress}
    detector = make_detector(network, images, split, StripOptions(**params.strip), **how)
    progress.finish()
    seconds = time.perf_counter() - start
    provenance = gather(snakemake.config, seconds=seconds, **device.describe(params.device))
    save_detector(snakemake.output[0], detector, provenance)
