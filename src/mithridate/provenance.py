"""Where a result comes from: versions, commit, machine; kept apart, so that equal results compare equal."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mithridate import __version__


def gather(config: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Plain values for an artefact's provenance: commit, versions, processor, the configuration's digest; `more` adds
    the job's own (device, peak memory)."""
    versions = {name: version(name) for name in ("numpy", "torch", "snakemake")}
    return {
        "mithridate": __version__,
        "commit": _commit(),
        "configuration": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16],
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        **versions,
        **more,
    }


def _processor() -> str:
    """The processor's name and the number of its cores: AMD EPYC, 2 cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # only Linux has that file
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.processor() or platform.machine())}, {os.cpu_count()} cores"


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
