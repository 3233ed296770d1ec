"""How well every defence repairs every network."""

import numpy as np
import pandas as pd

from mithridate.artefacts import read_provenance, read_safetensors, write_csv
from mithridate.job import logged
from mithridate.options.badnet import BadnetOptions
from mithridate.options.badnet_runs import nets
from mithridate.repair.judging import STRIP, load_judged
from mithridate.repair.repairs import repair_names
from mithridate.repair.table import tabulate

with logged(snakemake.log[0]):
    params, given = snakemake.params, snakemake.input
    options = BadnetOptions(**params.badnet)
    files, parts = iter(given.judged), []
    for net, repairs, strip in zip(nets(options, params.dataset), given.repairs, given.strips, strict=True):
        judged = {name: load_judged(next(files)) for name in net.files}
        clean, triggered = ({name: judged[name] for name in own} for own in (net.tests, net.triggered))
        about = read_safetensors(repairs)[1]
        seconds = {**about["provenance"]["seconds"], STRIP: read_provenance(strip)["seconds"]}
        names = {"dataset": "" if net.own else params.dataset, "net": net.name}
        rows = tabulate(names, list(clean.values()), triggered, repair_names(options), seconds, params.confidence)
        targets = net.targets or {
            name: int(own.labels[0]) for name, own in triggered.items() if np.ptp(own.labels) == 0
        }
        rows.insert(3, "target", rows["trigger"].map(targets).astype("Int64"))
        rows["held_out_accuracy"] = about["held_out_accuracy"]
        parts.append(rows)
    write_csv(snakemake.output[0], pd.concat(parts, ignore_index=True))
