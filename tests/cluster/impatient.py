"""Snakemake with a SLURM plugin that asks for finished jobs every second, not ever more rarely: tests have no time."""

import sys

import snakemake_executor_plugin_slurm
from snakemake.cli import main

snakemake_executor_plugin_slurm.Executor.next_seconds_between_status_checks = property(lambda self: 1, lambda *_: None)
sys.exit(main())
