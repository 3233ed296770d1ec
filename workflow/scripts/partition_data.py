"""Assign every training sample to its subsets and order each subset by content."""

from mithridate.data.dataset import load_header, load_images, load_labels, load_sums
from mithridate.data.partition import empty_share_warning, make_subsets, save_subsets
from mithridate.job import logged
from mithridate.provenance import gather

with logged(snakemake.log[0]):
    path, wildcards = snakemake.input.data, snakemake.wildcards
    header = load_header(path)
    subsets = make_subsets(
        load_images(path, "train"),
        load_labels(path, "train"),
        int(wildcards.k),
        d=int(wildcards.d),
        scale=header.scale,
        sums=load_sums(path),
        hash=snakemake.params.hash,
        sha256=header.sha256,
    )
    if warning := empty_share_warning(subsets.sizes):
        print(warning)
    save_subsets(snakemake.output[0], subsets, gather(snakemake.config))
