"""Read a user's own network from a Keras HDF5 file."""

from mithridate.data.faces import open_faces
from mithridate.job import logged
from mithridate.provenance import gather
from mithridate.repair.keras_hdf5 import load_deepid
from mithridate.repair.networks import Kind, state, write_networks

with logged(snakemake.log[0]):
    path = snakemake.input.network
    with open_faces(snakemake.input.held_out) as faces:
        size = faces.shape[1:]
    network = load_deepid(path, scale=snakemake.params.scale, size=size)
    shape = network.channels, network.height, network.width
    kind = Kind("deepid", shape, network.num_classes, network.scale)
    write_networks(snakemake.output[0], {"": state(network)}, kind, gather(snakemake.config), source=path)
