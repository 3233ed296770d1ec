"""Draw test images without and with a trigger."""

from mithridate.artefacts import read_hdf5
from mithridate.data.dataset import load_header, load_images
from mithridate.job import logged
from mithridate.pictures.backdoor import trigger_examples
from mithridate.pictures.style import save

with logged(snakemake.log[0]):
    given, scale = snakemake.input, load_header(snakemake.input.data).scale
    images = [load_images(path, "test") for path in (given.data, given.triggered)]
    norm = read_hdf5(given.triggered, "trigger_norm")["trigger_norm"]
    save(trigger_examples(*images, scale, norm), snakemake.output.picture, snakemake.output.caption)
