"""Draw the loss of each class's generator against the step."""

from mithridate.artefacts import read_csv
from mithridate.data.dataset import load_header
from mithridate.job import logged
from mithridate.pictures.dgn import losses
from mithridate.pictures.style import save

with logged(snakemake.log[0]):
    given, out, loss = snakemake.input, snakemake.output, snakemake.wildcards.loss
    names = load_header(given.data).class_names
    save(losses(read_csv(given.history), loss, names), out.picture, out.caption)
