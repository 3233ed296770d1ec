"""Where a result comes from: versions, commit, machine; kept apart, so that equal results compare equal."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mithridate import __version__


def gather(**more: Any) -> dict[str, Any]:
    """Plain values for an artefact's provenance; `more` adds the job's own (device, options, peak memory)."""
    versions = {name: version(name) for name in ("numpy", "torch", "snakemake")}
    return {
        "mithridate": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        **versions,
        **more,
    }


def _commit() -> str:
    """The checkout's commit, marked where files differ from it; empty outside a checkout."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
