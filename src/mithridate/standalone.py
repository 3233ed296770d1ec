"""`mithridate certify`: tables and summary for scores or votes that were made anywhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mithridate.artefacts import write_csv
from mithridate.certify.aggregation import votes
from mithridate.certify.collective import Collective, collective
from mithridate.certify.methods import RUNOFFS, check_disjoint, check_method
from mithridate.certify.streaming import certify_blocks
from mithridate.certify.tables import collective_curve, curve, summary
from mithridate.errors import InputError
from mithridate.foreign import Foreign, open_foreign
from mithridate.options.certificates import names
from mithridate.summary import text
from mithridate.training.flags import FLAGS


def certify_file(
    path: Path,
    out: Path | None,
    methods: Sequence[str] | None,
    confidence: float,
    radii: Sequence[int] = (),
) -> None:
    """Write <name>.certificates.csv.gz, <name>.cert.csv and <name>.summary.csv and print the summary.

    methods: None for all that the file allows. radii: attack sizes for which <name>.cert.csv also gets the collective
    certificate. Raises InputError for a file without scores, for NaN, where a method needs scores and only votes are
    there, and where a method or the collective certificate does not suit the subsets (methods.check_method).
    """
    with open_foreign(path) as given:
        chosen = methods or default_methods(given)
        for method in chosen:
            check_method(method, given.shifts, str(path))
            if given.only_votes and method in RUNOFFS:
                other = default_methods(given)[0]
                raise InputError(
                    f"{path} holds votes only, and the run-off needs scores: give scores, or --methods {other}."
                )
        if radii:
            check_disjoint("collective", given.shifts, str(path))
        certified = certify_blocks(
            given.blocks(),
            given.labels,
            chosen,
            subset_ids=given.subset_ids,
            shifts=given.shifts,
            where=str(path),
        )
        bounds = collective_bounds(given, radii) if radii else []
        sizes, flags, d, seeds = given.sizes, given.flags, given.d, given.seeds
    m = len(certified.base_accuracy)
    members = pd.DataFrame({"size": np.zeros(m, np.int64) if sizes is None else sizes, "flag": FLAGS[0]})
    if flags is not None:
        members["flag"] = np.array(FLAGS)[flags]
    members["base_accuracy"] = certified.base_accuracy
    run: dict[str, Any] = {"dataset": path.stem, "variant": "given", "k": m // d, "d": d, "seeds": seeds}
    table = summary(certified.rows, members, confidence=confidence, **run)
    if sizes is None:
        table = table.drop(columns=[*table.filter(like="partition_"), *table.filter(like="_members")])
    curves = [curve(certified.rows, confidence=confidence, **run)]
    if bounds:
        curves.append(collective_curve(pd.DataFrame(bounds), **run))
    folder = out or path.parent
    write_csv(folder / f"{path.stem}.certificates.csv.gz", certified.rows, checksum=False)
    write_csv(folder / f"{path.stem}.cert.csv", pd.concat(curves, ignore_index=True), checksum=False)
    write_csv(folder / f"{path.stem}.summary.csv", table, checksum=False)
    print(text(table))
    for bound in bounds:
        loose = f" (solver stopped at its limit in {bound.limited} of {bound.chunks} groups)" if bound.limited else ""
        print(f"  collectively certified against {bound.radius}: {bound.accuracy:.2%}{loose}")
    print(f"written: {folder / path.stem}.certificates.csv.gz, .cert.csv, .summary.csv")


def default_methods(given: Foreign) -> list[str]:
    """All certificates that hold for the file's subsets and that its content suffices for."""
    methods = names(overlapping=given.shifts not in (None, [0]))
    return [method for method in methods if not (given.only_votes and method in RUNOFFS)]


def collective_bounds(given: Foreign, radii: Sequence[int]) -> list[Collective]:
    """The collective certificate for each attack size."""
    parts, classes = [], 0
    for block in given.blocks():
        parts.append(votes(block).astype(np.uint16))
        classes = block.shape[2]
    return collective(np.concatenate(parts), given.labels, classes, radii)
