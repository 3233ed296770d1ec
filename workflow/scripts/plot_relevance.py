"""Draw which pixels the target looks at, class by class."""

from mithridate.adversarial.relevance import relevant_pixels
from mithridate.artefacts import read_hdf5
from mithridate.data.dataset import load_header
from mithridate.job import logged
from mithridate.pictures.dgn_target import relevance_maps
from mithridate.pictures.style import save

with logged(snakemake.log[0]):
    given, out = snakemake.input, snakemake.output
    found = read_hdf5(given.relevance, "relevance", "counts")
    chosen = relevant_pixels(found["relevance"], snakemake.params.k)
    names = load_header(given.data).class_names
    save(relevance_maps(found["relevance"], chosen, found["counts"], names), out.picture, out.caption)
