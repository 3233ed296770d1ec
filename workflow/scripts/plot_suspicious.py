"""Draw which hidden units of the target are active when it is wrong."""

from mithridate.artefacts import read_csv
from mithridate.data.dataset import load_header
from mithridate.job import logged
from mithridate.pictures.dgn_target import suspicious_maps
from mithridate.pictures.style import save

with logged(snakemake.log[0]):
    given, out = snakemake.input, snakemake.output
    names = load_header(given.data).class_names
    save(suspicious_maps(read_csv(given.units), names), out.picture, out.caption)
