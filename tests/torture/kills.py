"""kill -9 at random moments: of a whole run, of one of its jobs, and of Snakemake alone, whose jobs must end with it."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil

from tests.torture.runs import Run, differing

KINDS = ("run", "job", "snakemake")
LONGEST_LIFE = 20  # seconds of a job after its Snakemake's end
LEAST, MOST = 10, 40  # seconds from one kill to the next, at most: as many as the undisturbed run takes, within these


def torture(
    like: Run, folder: Path, expected: dict[str, str], kills: int, seed: int, seconds: float
) -> tuple[bool, str]:
    """Kill, continue, kill, … until a run is through, and again in a new copy until there were enough kills."""
    chance, counts, start = random.Random(seed), Counter[str](), time.monotonic()
    longest = min(max(LEAST, seconds), MOST)
    runs, wrong = 0, []
    while sum(counts[kind] for kind in KINDS) < kills:
        run, runs = Run.fresh(folder, like), runs + 1
        _through(run, folder.with_suffix(".log"), chance, counts, kills, longest)
        wrong += [*differing(expected, run.contents()), *map(str, run.left())]
        print(f"{runs} runs through, {sum(counts[kind] for kind in KINDS)} kills", file=sys.stderr)
    text = ", ".join(f"{kind} {counts[kind]} times" for kind in KINDS)
    outcome = f"DIFFERENT: {', '.join(wrong)}" if wrong else f"{len(expected)} artefacts equal after each"
    return not wrong, (
        f"killed {text}, --unlock needed {counts['unlock']} times, until {runs} runs were through in"
        f" {time.monotonic() - start:.0f} s; {outcome}"
    )


def together(like: Run, folder: Path, expected: dict[str, str]) -> tuple[bool, str]:
    """The same command twice at once: the second is refused, and the first is not disturbed."""
    run, logs = Run.fresh(folder, like), [folder.with_suffix(f".{number}.log") for number in (1, 2)]
    first = run.start(logs[0])
    while not list((run.project.folder / ".snakemake" / "locks").glob("*")) and first.poll() is None:
        time.sleep(0.1)
    second = run.start(logs[1])
    codes = second.wait(), first.wait()
    refused = codes == (1, 0) and "Another Snakemake instance" not in logs[0].read_text()
    wrong = differing(expected, run.contents())
    said = next((line for line in logs[1].read_text().splitlines() if "lock" in line), "nothing about a lock")
    return refused and not wrong, f"exit codes {codes[1]} and {codes[0]}: {said}; {len(wrong)} artefacts different"


def _through(run: Run, log: Path, chance: random.Random, counts: Counter[str], kills: int, longest: float) -> None:
    """Call the same command until it ends well, and kill meanwhile."""
    hurt = False
    while True:
        process = run.start(log)
        while _runs_for(process, chance.uniform(0, longest)):
            if sum(counts[kind] for kind in KINDS) < kills and (kind := _kill(process, chance)):
                counts[kind] += 1
                hurt = True
        if process.returncode == 0:
            break
        if not hurt:
            raise SystemExit(f"a run ended by itself with {process.returncode}; see {log}")
        hurt = process.returncode < 0  # else a job was killed, and the run ended for that
        if list((run.project.folder / ".snakemake" / "locks").glob("*")):
            run.unlock()
            counts["unlock"] += 1


def _runs_for(process: subprocess.Popen, seconds: float) -> bool:
    """Whether it still runs after so many seconds."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is None


def _kill(process: subprocess.Popen, chance: random.Random) -> str | None:
    """What was killed; nothing where a job was to be and there was none."""
    kind, children = chance.choice(KINDS), psutil.Process(process.pid).children(recursive=True)
    if kind == "run":
        os.killpg(process.pid, signal.SIGKILL)
    elif kind == "snakemake":
        process.kill()
        end = time.monotonic() + LONGEST_LIFE
        while any(map(_lives, children)):
            if time.monotonic() > end:
                raise SystemExit("a job outlived its Snakemake")
            time.sleep(0.1)
    elif jobs := [child for child in children if _is_job(child)]:
        chance.choice(jobs).kill()
    else:
        return None
    return kind


def _is_job(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any(".snakemake/scripts/" in word for word in process.cmdline())
    return False


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
