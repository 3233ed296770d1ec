"""Compare what a poisoned variant changed with what it can have changed; a violation ends the workflow."""

import numpy as np
import pandas as pd

from mithridate.artefacts import write_csv
from mithridate.certify.attack import check_attack
from mithridate.data.partition import load_subsets, touched_buckets, touched_subsets
from mithridate.data.poison import load_poisoned_index
from mithridate.job import logged
from mithridate.scoring.files import open_scores

with logged(snakemake.log[0]):
    params, given = snakemake.params, snakemake.input
    index = load_poisoned_index(given.data)
    clean, poisoned = (load_subsets(path) for path in given.subsets)
    buckets, subsets = (touched(clean, poisoned, index) for touched in (touched_buckets, touched_subsets))
    setting = {"poisoned_images": len(index), "touched_buckets": buckets.sum(), "touched_subsets": subsets.sum()}
    rows = []
    for trigger, before_path, after_path in zip(params.inputs, given.before, given.after, strict=True):
        with open_scores(before_path) as before, open_scores(after_path) as after:
            found, start = dict.fromkeys(params.methods, np.zeros(3, np.int64)), 0
            for one, other in zip(before.blocks(), after.blocks(), strict=True):
                for method in params.methods:
                    how = (buckets.sum(), method, before.shifts)
                    found[method] = found[method] + check_attack(one, other, subsets, *how, start_index=start)
                start += len(one)
        for method, (observed, possible, certified) in found.items():
            counts = {"observed_flips": observed, "possible_flips": possible, "certified": certified}
            rows.append({"trigger": trigger, "method": method, **setting, **counts, "n_test": start})
    write_csv(snakemake.output[0], pd.DataFrame(rows))
