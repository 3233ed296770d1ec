"""The parts of a run: their final tables, and what makes them."""

TABLES = {
    "dpa": ("dpa_cert", "dpa_summary"),
    "backdoor": ("backdoor_matrix", "backdoor_runs"),
    "rab": ("rab_cert",),
    "smoothing": ("smoothing_cert", "smoothing_claims"),
    "badnet": ("badnet_repair",),
    "dgn": ("dgn_robustness",),
}
"""Final tables of each part; the first one stands in its command."""
TITLES = {
    "dpa": "Partition aggregation",
    "backdoor": "Backdoors",
    "rab": "RAB",
    "smoothing": "Randomized smoothing",
    "badnet": "BadNet repair",
    "dgn": "Adversarial data",
}


def command(part: str, run: str) -> str:
    """What makes the tables of a part. run: options of Snakemake."""
    return " ".join(filter(None, [f"snakemake --cores 2 results/{TABLES[part][0]}.csv", run]))
