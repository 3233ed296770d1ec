"""Certify one block of the test images for every seed's victim (Cohen et al.)."""

import numpy as np
import pandas as pd

from mithridate import device
from mithridate.artefacts import write_csv
from mithridate.data.dataset import load_header, load_images, load_labels
from mithridate.data.points import certified_points
from mithridate.errors import InputError
from mithridate.job import logged
from mithridate.options.smoothing import CertifyOptions
from mithridate.progress import Progress
from mithridate.scoring.smoothing import Counter, certify
from mithridate.training.flags import RETRAINED
from mithridate.training.slices import read_slice

with logged(snakemake.log[0]):
    params, wildcards, data = snakemake.params, snakemake.wildcards, snakemake.input.data
    device.prepare(params.device)
    options, header, labels = CertifyOptions(**params.certify), load_header(data), load_labels(data, "test")
    family, recipe = read_slice(snakemake.input.victims)
    points = certified_points(labels, params.target, options.points, options.other_points, params.seed)
    number, blocks = (int(part) for part in wildcards.block.split("-of-"))
    if number > blocks:
        raise InputError(f"block {wildcards.block} does not exist: the last of {blocks} is {blocks}-of-{blocks}.")
    points = np.sort(points[number - 1 :: blocks])
    known = {"scale": header.scale, "num_classes": header.num_classes, "model": recipe["model"], "seed": params.seed}
    known |= {"sigma": float(wildcards.noise), "device": params.device, "chunk": options.chunk}
    progress = Progress(f"block {wildcards.block}: test images certified", len(points) * len(family.subset_ids))
    tables = []
    for position, seed in enumerate(family.subset_ids if len(points) else []):
        counter = Counter(family.member(position), header.shape, **known)
        rows = certify(counter, load_images(data, "test")[points], labels[points], points, options, progress)
        tables.append(rows.assign(seed=seed, retrained=family.flags[position] == RETRAINED))
    progress.finish()
    columns = ["seed", "index", "label", "prediction", "selected", "n_a", "n", "radius", "correct", "retrained"]
    table = pd.concat(tables)[columns] if tables else pd.DataFrame(columns=columns)
    write_csv(snakemake.output[0], table)
