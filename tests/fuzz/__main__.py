"""Fuzz every reader: python -m tests.fuzz [SECONDS each] [READER ...]; executions and findings, and exit code 1 for these.

Needs Atheris (pip install -e '.[fuzz]'). What a reader stumbles over is kept in fuzz-findings/.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.readers import READERS

FINDINGS = Path("fuzz-findings")


def main() -> int:
    if importlib.util.find_spec("atheris") is None:
        print("error: Atheris is not installed: pip install -c constraints.txt -e '.[fuzz]'.", file=sys.stderr)
        return 2
    seconds, names = int(sys.argv[1]) if len(sys.argv) > 1 else 60, sys.argv[2:] or list(READERS)
    FINDINGS.mkdir(exist_ok=True)
    found = 0
    print(f"{'reader':12s} {'executions':>10s} {'seconds':>8s}  findings", flush=True)
    for name in names:
        executions, took, reason = fuzz(name, seconds)
        found += bool(reason)
        print(f"{name:12s} {executions:10,d} {took:8d}  {reason or 'none'}", flush=True)
    print(f"{found} of {len(names)} readers with a finding" + (f", kept in {FINDINGS}/" if found else ""))
    return 1 if found else 0


def fuzz(name: str, seconds: int) -> tuple[int, int, str]:
    """Executions, seconds and what was found, "" for nothing."""
    options = [f"-max_total_time={seconds}", "-print_final_stats=1", f"-artifact_prefix={FINDINGS}/{name}-"]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.harness", name, *options],
        env={**os.environ, **threads}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    log = FINDINGS / f"{name}.log"
    executions = re.findall(r"stat::number_of_executed_units: *(\d+)", done.stdout)
    took = re.findall(r"in (\d+) second", done.stdout)
    if done.returncode == 0:
        log.unlink(missing_ok=True)
        return int(executions[-1]) if executions else 0, int(took[-1]) if took else 0, ""
    log.write_text(done.stdout)
    reason = re.findall(
        r"^(?:=== Uncaught Python exception: ===\n(.*)|==\d+== ?ERROR: (.*)|(\w*Error: .*))$", done.stdout, re.M
    )
    text = next((part for group in reason for part in group if part), f"exit code {done.returncode}")
    return int(executions[-1]) if executions else 0, int(took[-1]) if took else 0, f"{text[:150]} ({log})"


if __name__ == "__main__":
    sys.exit(main())
