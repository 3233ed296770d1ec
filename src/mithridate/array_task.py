"""A task of a SLURM job array, which the plugin (2.8) starts with the command of the array's first task.

The plugin lets that command run the task's own, and then fails the task where the first one's output is missing
(https://github.com/snakemake/snakemake-executor-plugin-slurm/issues/447).
"""

import os
from collections.abc import Sequence

OPTION = "--slurm-jobstep-array-execs="


def become_own_command(arguments: Sequence[str]) -> None:
    """In a task of an array other than the first: replace this process by the task's own command."""
    commands = [word.removeprefix(OPTION) for word in arguments if word.startswith(OPTION)]
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    if not commands or task is None or task == os.environ["SLURM_ARRAY_TASK_MIN"]:
        return
    from snakemake_executor_plugin_slurm_jobstep import _decompress_array_task_call

    os.execv("/bin/sh", ["sh", "-c", _decompress_array_task_call(commands[0], int(task))])
