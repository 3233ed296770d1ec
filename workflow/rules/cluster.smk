# What is different on a cluster (profiles/slurm); no rules here.
import sys

import mithridate.array_task

# These run where Snakemake does: they take seconds, and computing nodes often have no network.
LIGHT = "make_data|(tabulate|plot|show|describe|sum_up|sample|deliver|refuse)_.*|export_keras|record"
workflow.localrules(*(rule.name for rule in workflow.rules if re.fullmatch(LIGHT, rule.name)))

# A job that fails is submitted again; were it tried again on its node as well, attempts would multiply.
if workflow.remote_exec:
    for each in workflow.rules:
        each.restart_times = 0

mithridate.array_task.become_own_command(sys.argv)


def check_cluster() -> None:
    """Refuses what would go wrong without a word on a cluster: training without cards, and waiting for ever."""
    if OPTIONS.device == "auto" and workflow.non_local_exec:
        # --config on the command line replaces the profile's.
        raise WorkflowError("device: auto cannot be decided on a login node: add device=cuda (or cpu) to --config.")
    limited = workflow.nodes not in (None, sys.maxsize) or "gpu" in workflow.global_resources
    if limited and getattr(workflow.executor_settings, "array_jobs", None) not in (None, "none"):
        # The plugin would wait for the rest of an array (…/issues/473).
        raise WorkflowError("--jobs and --resources gpu cannot limit job arrays: add --slurm-array-jobs none.")
