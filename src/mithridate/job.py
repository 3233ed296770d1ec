"""What every workflow script does first: a log beside the terminal, one sentence for what the user can mend, and an end
where Snakemake has ended."""

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TextIO

from mithridate.errors import InputError, unwritten

VARIABLE = "MITHRIDATE_SNAKEMAKE"


def share_library() -> None:
    """Let jobs in whatever environment (conda, a cluster's) import the library that the workflow itself runs with."""
    folder, before = str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")
    if folder not in before.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, before]))


def name_snakemake() -> None:
    """Tell the jobs that this process starts that they end with it (on Linux)."""
    os.environ[VARIABLE] = f"{os.getpid()} {_begun(os.getpid())} {_space()}" if _space() else ""


class _Tee:
    """Writes to the terminal and the log."""

    def __init__(self, *streams: TextIO) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            with suppress(OSError):  # a log on a full disk must not stop what is said on the terminal
                stream.write(text)
                stream.flush()
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            with suppress(OSError):
                stream.flush()


@contextmanager
def logged(path: str) -> Iterator[None]:
    """Copy what is printed to a log file. An InputError ends the process with its sentence and exit code 1. So does the
    end of Snakemake, without a sentence (on Linux)."""
    _end_with_snakemake()
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        log = open(path, "w")  # noqa: SIM115 - closed below, where a full disk may object
    except OSError as error:
        print(f"error: {unwritten(path, error)}", file=sys.stderr)
        sys.exit(1)
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Tee(out, log), _Tee(err, log)
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        sys.stdout, sys.stderr = out, err
        with suppress(OSError):
            log.close()


def _end_with_snakemake() -> None:
    """A job that outlived a killed Snakemake would work beside the next one's, and might overwrite what that has made
    with other options. Where the process that `name_snakemake` named ends, or has ended, so does this one."""
    pid, begun, space = (os.environ.get(VARIABLE, "") + "  ").split(" ")[:3]
    if not pid or space != _space():  # called by hand, or from where its process cannot be seen
        return

    def wait() -> None:
        with suppress(OSError, AttributeError):  # no such call on this system: look once a second
            poll = select.poll()
            poll.register(os.pidfd_open(int(pid)), select.POLLIN)
            if _begun(pid) == begun:
                poll.poll()
                os._exit(1)
        while _begun(pid) == begun:
            time.sleep(1)
        os._exit(1)

    if _begun(pid) != begun:
        os._exit(1)
    Thread(target=wait, daemon=True).start()


def _begun(pid: int | str) -> str:
    """When a process began, in the kernel's ticks; "" where there is none, or only what is left of one."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else rest[18]
    except (OSError, IndexError):
        return ""


def _space() -> str:
    """The name space that process numbers are of; "" where there is no /proc."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
