"""What every workflow script does first: a log beside the terminal, and one sentence for what the user can mend."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
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
    """Copy what is printed to a log file. An InputError ends the process with its sentence and exit code 1."""
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
