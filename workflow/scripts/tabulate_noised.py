"""RAB's certified accuracy per radius, for every training set, kind of test images and noise."""

from mithridate.artefacts import read_csv, write_csv
from mithridate.certify.rab_table import Certified, tabulate
from mithridate.data.dataset import load_header
from mithridate.data.poison import load_poisoned_norm
from mithridate.job import logged
from mithridate.options.attacks import CLEAN
from mithridate.options.rab import RabOptions

with logged(snakemake.log[0]):
    params, options = snakemake.params, RabOptions(**snakemake.params.rab)
    classes = load_header(snakemake.input.data[0]).num_classes
    norms = {
        name: load_poisoned_norm(path)
        for name, path in zip(params.variants, snakemake.input.data, strict=True)
        if name != CLEAN
    }
    runs = [
        Certified(variant, sigma, read_csv(path, keep_default_na=False))
        for (variant, sigma), path in zip(params.runs, snakemake.input.certificates, strict=True)
    ]
    table = tabulate(runs, norms, options, num_classes=classes, confidence=params.confidence)
    table.insert(0, "dataset", params.dataset)
    write_csv(snakemake.output[0], table)
