"""Write the images that planted networks are not trained on, and the test images, as files for their repair."""

from mithridate.data.dataset import load_header, load_images, load_labels
from mithridate.data.faces import write_faces
from mithridate.job import logged
from mithridate.provenance import gather
from mithridate.repair.planting import held_out_rows

with logged(snakemake.log[0]):
    params, data = snakemake.params, snakemake.input.data
    header = load_header(data)
    how = {"scale": header.scale, "provenance": gather(snakemake.config)}
    _, rows = held_out_rows(header.n_train, params.held_out, params.seed)
    write_faces(snakemake.output.held_out, load_images(data, "train")[rows], load_labels(data, "train")[rows], **how)
    write_faces(snakemake.output.test, load_images(data, "test"), load_labels(data, "test"), **how)
