"""Scripts of the workflow: a job ends with its Snakemake, and tells in one sentence what the user can mend."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

MASTER = """
import subprocess, sys
from mithridate.job import name_snakemake
if sys.argv[2] == "named":
    name_snakemake()
subprocess.run(["bash", "-c", f"{sys.executable} {sys.argv[1]}; true"])
"""
JOB = """
import os, sys, time
print(os.getpid(), flush=True)
time.sleep({before})  # importing
from mithridate import job
{blind}
with job.logged(sys.argv[0] + ".log"):
    time.sleep(60)
"""


def started(tmp_path: Path, master: str, before: float = 0, blind: str = "") -> tuple[subprocess.Popen, psutil.Process]:
    """A master, named or not, and the job that it has started through a shell."""
    script, job = tmp_path / "master.py", tmp_path / "job.py"
    script.write_text(MASTER)
    job.write_text(JOB.format(before=before, blind=blind))
    process = subprocess.Popen([sys.executable, script, job, master], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, psutil.Process(int(process.stdout.readline()))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells at once that another process has ended")
@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("blind", ["", "del os.pidfd_open"])
def test_a_job_ends_with_its_snakemake(tmp_path, before, blind):
    """Be it still importing, and where the system cannot tell of other processes' ends."""
    process, job = started(tmp_path, "named", before, blind)
    time.sleep(1.5)
    assert job.is_running()
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while job.is_running() and job.status() != psutil.STATUS_ZOMBIE:  # not every process 1 buries its children
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_job_without_snakemake_runs_on(tmp_path):
    process, job = started(tmp_path, "unnamed")
    process.kill()
    process.wait()
    time.sleep(0.5)
    assert job.is_running()
    job.kill()


def test_what_the_user_can_mend_is_one_sentence(tmp_path):
    code = "from mithridate.job import logged\nfrom mithridate.errors import InputError\n"
    code += (
        f"with logged({str(tmp_path / 'logs' / 'a.log')!r}):\n    print('begun')\n    raise InputError('mend this.')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "begun\n", "error: mend this.\n")
    assert (tmp_path / "logs" / "a.log").read_text() == "begun\nerror: mend this.\n"
