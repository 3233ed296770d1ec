"""One card for each GPU job: real processes, cards that exist in name only."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from mithridate import device, lease
from mithridate.errors import InputError

UUIDS = ["GPU-1f00", "GPU-2f00", "GPU-3f00"]
WAITING = "waiting for a GPU: other jobs hold {} that this one may use\n"
START = "import os, subprocess, sys, time\nfrom mithridate import lease\nlease.BETWEEN = 0.02\n"
TAKE = (
    "print(flush=True); input(); card = lease.take(sys.argv[2:], lease.Path(sys.argv[1])); start = time.monotonic()\n"
)
WORK = START + TAKE + "time.sleep(0.1); print(card, start, time.monotonic())"  # one clock for all processes
# Its children, a program of its own and a fork, inherit what they can and live on.
HOLD = f"""{START}{TAKE}child = subprocess.Popen(["sleep", "60"], close_fds=False)
print(card, child.pid, os.fork() or time.sleep(60), flush=True)
time.sleep(60)
"""


def job(code: str, folder: Path, *cards: str) -> subprocess.Popen[str]:
    """A process that is about to take a card, as soon as it is told to."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code, str(folder), *cards], text=True, **pipes)


def start(*jobs: subprocess.Popen[str]) -> None:
    """Let the jobs take their cards, all at once."""
    for one in jobs:
        one.stdout.readline()
    for one in jobs:
        one.stdin.write("\n")
        one.stdin.flush()


@contextmanager
def holding(folder: Path, *cards: str) -> Iterator[tuple[subprocess.Popen[str], str, list[int]]]:
    """A process that holds a card, the card, and its children; all are killed in the end."""
    with job(HOLD, folder, *cards) as one:
        start(one)
        card, *children = one.stdout.readline().split()
        try:
            yield one, card, [int(pid) for pid in children]
        finally:
            for pid in (one.pid, *map(int, children)):
                os.kill(pid, signal.SIGKILL)


def test_no_two_jobs_hold_one_card(tmp_path):
    jobs = [job(WORK, tmp_path / "locks", "a", "b") for _ in range(7)]
    start(*jobs)
    held, said = {"a": [], "b": []}, []
    for one in jobs:
        out, err = one.communicate(timeout=60)
        assert one.returncode == 0, err
        card, begin, end = out.split()
        held[card].append((float(begin), float(end)))
        said.append(err)
    assert sum(map(len, held.values())) == len(jobs)
    for times in held.values():
        for (_, end), (begin, _) in itertools.pairwise(sorted(times)):
            assert end <= begin
    assert set(said) == {"", WAITING.format("all 2 cards")}


def test_a_killed_job_releases_its_card_whatever_its_children_do(tmp_path):
    with holding(tmp_path, "a") as (first, card, children), job(WORK, tmp_path, "a") as second:
        assert card == "a"
        start(second)
        assert second.stderr.readline() == WAITING.format("the card")
        time.sleep(0.2)
        assert second.poll() is None
        first.kill()
        assert second.stdout.readline().startswith("a ")
        assert second.wait(20) == 0
        assert all(Path(f"/proc/{pid}").exists() for pid in children)


def test_the_first_free_card_in_order_is_taken(tmp_path):
    with holding(tmp_path, "b", "a") as (_, card, _):
        assert card == "b"
        out, err = job(WORK, tmp_path, "b", "c", "a").communicate("\n", timeout=20)
        assert out.startswith("\nc ")
        assert not err


@pytest.mark.parametrize(
    ("variable", "known", "cards"),
    [
        (None, UUIDS, UUIDS),
        ("2,0", UUIDS, ["GPU-3f00", "GPU-1f00"]),
        ("GPU-3, GPU-1f00,2", UUIDS, ["GPU-3f00", "GPU-1f00"]),
        ("1,3,0", UUIDS, ["GPU-2f00"]),  # as in CUDA, what follows an entry without a card is not seen
        ("GPU-9,0", UUIDS, []),
        ("", UUIDS, []),
        ("-1", UUIDS, []),
        ("MIG-77,MIG-78", UUIDS, ["MIG-77", "MIG-78"]),
        ("1", ["0", "1"], ["1"]),
        ("GPU-9", ["0", "1"], ["GPU-9"]),
        ("4", [], ["4"]),  # nothing lists cards: the variable is believed
        (None, [], []),
    ],
)
def test_visible_cards(monkeypatch, variable, known, cards):
    monkeypatch.setattr(lease, "machine_cards", lambda: known)
    if variable is None:
        monkeypatch.delenv(lease.VARIABLE, raising=False)
    else:
        monkeypatch.setenv(lease.VARIABLE, variable)
    assert lease.visible_cards() == cards


def test_cards_of_the_machine(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    program.write_text("#!/bin/sh\n[ $1 = --query-gpu=uuid ] && printf 'GPU-1f00\\nGPU-2f00\\n'\n")
    program.chmod(0o755)
    assert lease.machine_cards() == UUIDS[:2]
    counted = [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
    for broken in ("#!/bin/sh\necho No devices were found\n", "#!/bin/sh\nexit 9\n"):
        program.write_text(broken)
        assert lease.machine_cards() == counted


@pytest.mark.parametrize(
    ("slurm", "before", "after", "locks"),
    [
        (None, None, "GPU-1f00", ["GPU-1f00"]),
        (None, "1", "GPU-2f00", ["GPU-2f00"]),
        (None, "", "", []),
        ("17", "1", "1", []),  # SLURM has given this job its card
        ("17", "1,2", "GPU-2f00", ["17-GPU-2f00"]),  # shared out within this allocation
        ("17", None, "GPU-1f00", ["GPU-1f00"]),  # SLURM hands out no cards here
    ],
)
def test_what_a_job_sees(monkeypatch, tmp_path, slurm, before, after, locks):
    monkeypatch.setattr(lease, "machine_cards", lambda: UUIDS)
    monkeypatch.setattr(lease, "FOLDER", tmp_path)
    for name, value in (("SLURM_JOB_ID", slurm), (lease.VARIABLE, before)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    lease.hold_card()
    lease.hold_card()  # again in the same process: the same card, without waiting for itself
    assert os.environ[lease.VARIABLE] == after
    assert sorted(path.name for path in tmp_path.iterdir()) == locks


def test_a_job_takes_its_card_before_it_asks_for_cuda(monkeypatch):
    asked = []
    monkeypatch.setattr(device, "hold_card", lambda: asked.append("card"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: asked.append("cuda"))
    with pytest.raises(InputError, match="PyTorch sees no card"):
        device.prepare("cuda")
    assert asked == ["card", "cuda"]
    device.prepare("cpu")
    assert asked == ["card", "cuda"]


def test_a_folder_of_others_is_refused(monkeypatch, tmp_path):
    folder = tmp_path / "locks"
    folder.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(InputError, match=r"locks is not a folder of yours.*remove it"):
        lease.take(["a"], folder)


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "locks").write_text("")
    with pytest.raises(InputError, match=r"locks: no card can be leased there"):
        lease.take(["a"], tmp_path / "locks")
