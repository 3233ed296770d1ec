"""A SLURM of one node with two partitions and two cards that are none, for tests; needs root."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
INSTALLED = Path("/etc/slurm")  # where slurmd's children look for the configuration
FILES = ("slurm.conf", "gres.conf")
CARDS = 2
CONFIGURATION = """
ClusterName=mithridate
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0
SlurmdParameters=config_overrides
GresTypes=gpu
KillWait=2
MinJobAge=3600
TaskProlog={folder}/task_prolog
Epilog={folder}/epilog
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 Gres=gpu:{cards}
PartitionName=cpu Nodes={host} Default=YES
PartitionName=gpu Nodes={host}
"""


def missing() -> str:
    """Why this machine cannot run it; empty where it can."""
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    if os.geteuid() != 0:
        return "a SLURM of one's own needs root"
    if absent:
        return f"{', '.join(absent)} not found: apt-get install slurm-wlm munge"
    taken = [str(INSTALLED / name) for name in FILES if (INSTALLED / name).exists()]
    return f"{', '.join(taken)} exists: this machine has a SLURM already" if taken else ""


@contextmanager
def cluster(folder: Path):
    """Run it with everything it writes in `folder`; /etc/slurm points there meanwhile."""
    configure(folder)
    daemons: list[subprocess.Popen] = []
    links = [INSTALLED / name for name in FILES]
    made = not INSTALLED.exists()
    INSTALLED.mkdir(exist_ok=True)
    try:
        for link in links:
            link.unlink(missing_ok=True)  # of a run that was killed
            link.symlink_to(folder / link.name)
        for command in daemon_commands(folder):
            log = (folder / f"{command[0]}.out").open("w")
            daemons.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
            if command[0] == "munged":
                wait_for((folder / "munge.sock").exists, "munged's socket")
        wait_for(lambda: "idle" in said("sinfo", "-h", "-o", "%t"), "an idle node")
        yield
    finally:
        said("scancel", "--user=root")
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(timeout=20)
        for link in links:
            link.unlink(missing_ok=True)
        if made:
            INSTALLED.rmdir()


def configure(folder: Path) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)  # munged demands that nobody else may write where its socket and key are
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    for card in range(CARDS):
        os.mknod(folder / f"card{card}", 0o20666, os.makedev(1, 3))  # /dev/null by another name
    host = socket.gethostname().split(".")[0]
    text = CONFIGURATION.format(folder=folder, host=host, ports=free_ports(2), cards=CARDS)
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/card[0-{CARDS - 1}]\n")

    # SLURM itself writes down who has which card when: at the start of every process it launches, and when a job ends.
    hooks = {
        "task_prolog": f'echo "$SLURM_JOB_ID start $(date +%s.%N) ${{CUDA_VISIBLE_DEVICES:-none}}" >> {folder}/cards\n',
        "epilog": f'echo "$SLURM_JOB_ID end $(date +%s.%N) -" >> {folder}/cards\n',
    }
    for name, line in hooks.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}")
        (folder / name).chmod(0o755)


def daemon_commands(folder: Path) -> list[list[str]]:
    conf = str(folder / "slurm.conf")
    names = {"key": "key-file", "sock": "socket", "pid": "pid-file", "seed": "seed-file", "log": "log-file"}
    munge = [f"--{option}={folder}/munge.{suffix}" for suffix, option in names.items()]
    return [
        ["munged", "--foreground", "--force", *munge],
        ["slurmctld", "-D", "-i", "-f", conf],
        ["slurmd", "-D", "-f", conf],
    ]


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def said(*command: str) -> str:
    """What a command prints; nothing where it fails."""
    return subprocess.run(command, capture_output=True, text=True).stdout


def wait_for(condition, what: str, seconds: float = 30):
    """What a condition gives as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.1)
    return value
