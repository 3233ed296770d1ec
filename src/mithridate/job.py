"""What every workflow script does first: a log beside the terminal, one sentence for what the user can mend, and an end
where Snakemake has ended."""

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TextIO

from mithridate.errors import InputError, unwritten


def share_library() -> None:
    """Let jobs in whatever environment (conda, a cluster's) import the library that the workflow itself runs with."""
    folder, before = str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")
    if folder not in before.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, before]))


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
    with other options."""
    if (master := _snakemake()) is None:
        return
    try:
        alive = os.pidfd_open(master)
    except OSError:  # it has ended already
        os._exit(1)

    def wait() -> None:
        poll = select.poll()
        poll.register(alive, select.POLLIN)
        poll.poll()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def _snakemake() -> int | None:
    """The nearest Snakemake among the processes that this one descends from; None where there is none, or none to be
    seen."""
    pid = os.getppid()
    try:
        while pid > 1:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if any(word.rsplit(b"/", 1)[-1] == b"snakemake" for word in words):
                return pid if hasattr(os, "pidfd_open") else None
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return None
