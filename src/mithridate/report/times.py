"""What a run costs: seconds and memory of the jobs behind its tables."""

from collections.abc import Iterable

import pandas as pd

from mithridate.benchmark import last_run
from mithridate.report.lineage import Job
from mithridate.report.origins import provenance

MIB = 2**20


def by_rule(jobs: Iterable[Job]) -> pd.DataFrame:
    """One row per rule, the longest first: jobs, and of those with a measurement seconds (total, median, longest), peak
    resident memory and, where a GPU was used, peak memory there [MiB].

    A job is measured each time it runs, and the last time counts. A job whose measurement is missing (its rule has
    none, or the file was deleted) is counted among `jobs` and not among `measured`, and its rule's total is too low.
    """
    rows = pd.DataFrame([_measured(job) for job in jobs], columns=["rule", "seconds", "memory", "gpu"])
    rows = rows.astype({"seconds": float, "memory": float, "gpu": float})
    table = rows.groupby("rule").agg(
        jobs=("rule", "size"),
        measured=("seconds", "count"),
        seconds_total=("seconds", lambda seconds: seconds.sum(min_count=1)),
        seconds_median=("seconds", "median"),
        seconds_longest=("seconds", "max"),
        peak_memory_mib=("memory", "max"),
        peak_gpu_memory_mib=("gpu", "max"),
    )
    table = table.reset_index().sort_values("seconds_total", ascending=False, kind="stable", ignore_index=True)
    return table.drop(columns=[] if table["peak_gpu_memory_mib"].any() else "peak_gpu_memory_mib")


def _measured(job: Job) -> tuple[str, float | None, float | None, float | None]:
    gpu = max((provenance(path).get("peak_gpu_bytes", 0) / MIB for path in job.outputs), default=0) or None
    if not job.benchmark.is_file():
        return job.rule, None, None, gpu
    last = last_run(job.benchmark)
    return job.rule, last["s"], last["max_rss"], gpu
