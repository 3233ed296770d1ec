"""Draw how far a network is pruned, what STRIP sees, and what the repaired network says of some images."""

import json

from mithridate.artefacts import read_attributes, read_csv, read_hdf5
from mithridate.data.faces import open_faces
from mithridate.job import logged
from mithridate.options.badnet import BadnetOptions, StripOptions
from mithridate.pictures.badnet import answers, pruning, shown_rows, statistic
from mithridate.pictures.style import save
from mithridate.repair.judging import load_judged
from mithridate.repair.repairs import repair_names
from mithridate.repair.table import Defence

with logged(snakemake.log[0]):
    params, given, out = snakemake.params, snakemake.input, snakemake.output
    files = {name: load_judged(path) for name, path in zip(params.files, given.judged, strict=True)}
    tests = {name: files.pop(name) for name in params.tests}
    strip, about = read_hdf5(given.strip, "overlays", "calibration"), read_attributes(given.strip)
    options, boundary = StripOptions(**json.loads(about["options"])), float(about["boundary"])
    delivered = Defence("delivered", params.rule, repair_names(BadnetOptions(pruning=params.pruning))[-1])
    rows, examples = shown_rows(tests, files, params.paired), {}
    for name, path in zip(params.files, given.files, strict=True):
        with open_faces(path) as faces:
            examples[name] = rows[name], faces.images(rows[name])
    save(pruning(read_csv(given.curve), tests, files, params.tau), out.pruning, out.pruning_caption)
    histograms = statistic(strip["calibration"], boundary, options, tests, files, params.confidence)
    save(histograms, out.statistic, out.statistic_caption)
    shown = answers(delivered, tests, files, examples, strip["overlays"], options)
    save(shown, out.answers, out.answers_caption)
