"""`mithridate certify`: tables and summary for scores or votes that were made anywhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mithridate.artefacts import write_csv
from mithridate.certify.streaming import certify_blocks
from mithridate.certify.tables import curve, summary
from mithridate.errors import InputError
from mithridate.foreign import open_foreign
from mithridate.summary import text
from mithridate.training.flags import FLAGS

METHODS = ("dpa", "runoff")


def certify_file(path: Path, out: Path | None, methods: Sequence[str] | None, confidence: float) -> None:
    """Write <name>.certificates.csv.gz, <name>.cert.csv and <name>.summary.csv and print the summary.

    Raises InputError for a file without scores, for NaN, and where a method needs scores and only votes are there.
    """
    with open_foreign(path) as given:
        if given.only_votes and methods and "runoff" in methods:
            raise InputError(f"{path} holds votes only, and the run-off needs scores: give scores, or --methods dpa.")
        chosen = methods or (METHODS[:1] if given.only_votes else METHODS)
        certified = certify_blocks(given.blocks(), given.labels, chosen, subset_ids=given.subset_ids, where=str(path))
        sizes, flags = given.sizes, given.flags
    k = len(certified.base_accuracy)
    members = pd.DataFrame({"size": np.zeros(k, np.int64) if sizes is None else sizes, "flag": FLAGS[0]})
    if flags is not None:
        members["flag"] = np.array(FLAGS)[flags]
    members["base_accuracy"] = certified.base_accuracy
    run: dict[str, Any] = {"dataset": path.stem, "variant": "given", "k": k, "confidence": confidence}
    table = summary(certified.rows, members, **run)
    if sizes is None:
        table = table.drop(columns=[*table.filter(like="partition_"), *table.filter(like="_members")])
    folder = out or path.parent
    write_csv(folder / f"{path.stem}.certificates.csv.gz", certified.rows)
    write_csv(folder / f"{path.stem}.cert.csv", curve(certified.rows, **run))
    write_csv(folder / f"{path.stem}.summary.csv", table)
    print(text(table))
    print(f"written: {folder / path.stem}.certificates.csv.gz, .cert.csv, .summary.csv")
