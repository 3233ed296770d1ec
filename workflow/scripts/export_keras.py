"""Write a repaired network as Keras HDF5, in the layout of the user's own file."""

from mithridate.job import logged
from mithridate.provenance import gather
from mithridate.repair.keras_hdf5 import save_deepid
from mithridate.repair.networks import read_network

with logged(snakemake.log[0]):
    network, _ = read_network(snakemake.input.repaired)
    like = snakemake.input.like[0] if snakemake.input.like else None
    save_deepid(network, snakemake.output[0], like=like, provenance=gather(snakemake.config))
