"""Draw poisoned images beside their originals."""

import numpy as np

from mithridate.attacks.poisons import load_poison
from mithridate.data.dataset import load_header, load_images
from mithridate.job import logged
from mithridate.pictures.smoothing import perturbations
from mithridate.pictures.style import save

with logged(snakemake.log[0]):
    data = snakemake.input.data
    header = load_header(data)
    poison = load_poison(snakemake.input.poison, header.sha256)
    clean = load_images(data, "train")[poison.index] * np.float32(header.scale)
    save(perturbations(clean, poison.images, poison.epsilon), snakemake.output.picture, snakemake.output.caption)
