"""Draw who is robust against whom, and how much white-box PGD leaves at every radius."""

from mithridate.artefacts import read_csv
from mithridate.job import logged
from mithridate.pictures.dgn import curves, matrix
from mithridate.pictures.style import save

with logged(snakemake.log[0]):
    out, confidence = snakemake.output, snakemake.params.confidence
    table = read_csv(snakemake.input.table, keep_default_na=False, na_values=[""])
    save(matrix(table, confidence), out.matrix, out.matrix_caption)
    save(curves(table, confidence), out.curves, out.curves_caption)
