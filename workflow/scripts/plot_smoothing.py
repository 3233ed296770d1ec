"""Draw the average certified radii of all victims, and how far each poison moves them."""

from mithridate.artefacts import read_csv
from mithridate.job import logged
from mithridate.pictures.smoothing import average_radii, transfer
from mithridate.pictures.style import save

with logged(snakemake.log[0]):
    out, confidence = snakemake.output, snakemake.params.confidence
    cert, claims = read_csv(snakemake.input.cert), read_csv(snakemake.input.claims)
    save(average_radii(cert, confidence), out.average_radii, out.average_radii_caption)
    save(transfer(claims, confidence), out.transfer, out.transfer_caption)
