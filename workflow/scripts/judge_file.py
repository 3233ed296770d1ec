"""What a network, its repairs, its twin and STRIP say of a file's images."""

from mithridate import device
from mithridate.artefacts import read_csv
from mithridate.data.faces import open_faces
from mithridate.job import logged
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.repair.detector import load_detector
from mithridate.repair.judging import SUSPICIOUS, TWIN, judge, save_judged
from mithridate.repair.networks import read_network, read_networks

with logged(snakemake.log[0]):
    params, wildcards, given = snakemake.params, snakemake.wildcards, snakemake.input
    device.prepare(params.device)
    network, kind = read_network(given.network, params.device, own=params.model)
    networks = {SUSPICIOUS: network, **read_networks(given.repairs, params.device, own=params.model)[0]}
    if given.twin:
        networks[TWIN] = read_network(given.twin[0], params.device, own=params.model)[0]
    detector = load_detector(given.strip, network, params.device)
    how = {"triggered": params.triggered, "device": params.device}
    if params.pruning == "channels":
        how["pruning"] = params.layer, read_csv(given.curve)
    with open_faces(given.file, kind.shape, kind.num_classes) as faces:
        progress = Progress(f"images of {wildcards.file} shown to {wildcards.net}", len(faces))
        judged = judge(faces, networks, detector, kind.num_classes, progress=progress, **how)
    progress.finish()
    save_judged(snakemake.output[0], judged, gather(snakemake.config, **device.describe(params.device)))
