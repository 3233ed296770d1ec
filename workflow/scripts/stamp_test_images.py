"""Write all test images with a planted network's trigger; their label is the attack's target."""

import numpy as np

from mithridate.data.dataset import load_header, load_test
from mithridate.data.faces import write_faces
from mithridate.job import logged
from mithridate.provenance import gather
from mithridate.repair.planting import planted_trigger

with logged(snakemake.log[0]):
    wildcards, header = snakemake.wildcards, load_header(snakemake.input.data)
    images, labels = load_test(snakemake.input.data)
    triggered = planted_trigger(wildcards.stamp, header.shape).apply(images, header.scale)
    targets = np.full(len(labels), int(wildcards.target_class))
    how = {"scale": header.scale, "true_labels": labels, "provenance": gather(snakemake.config)}
    write_faces(snakemake.output[0], triggered, targets, **how)
