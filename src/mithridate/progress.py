"""One line now and then that tells how far long work is and how long it will take."""

import sys
import time
from collections.abc import Callable

FIRST, BETWEEN = 2.0, 10.0  # seconds


class Progress:
    """Counts finished items of `total`; `share` adds the part done of those in work."""

    def __init__(self, what: str, total: int, write: Callable[[str], object] | None = None) -> None:
        self.what, self.total, self.done = what, total, 0
        self._write = write or (lambda line: print(line, file=sys.stderr, flush=True))
        self._start = time.monotonic()
        self._next = self._start + FIRST
        self._skipped = 0

    def skip(self, count: int) -> None:
        """Items that needed no work (they do not count for the time left)."""
        self.done += count
        self._skipped += count

    def add(self, count: int) -> None:
        self.done += count
        self.share(0)

    def share(self, in_work: float) -> None:
        """Report if it is time; in_work is the part done of the items in work, in items."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + BETWEEN
            worked = self.done - self._skipped + in_work
            rest = (now - self._start) / worked * (self.total - self.done - in_work) if worked else 0
            left = f"about {duration(rest)} left" if worked else "just started"
            self._write(f"{self.what}: {self.done} of {self.total}, {left}")

    def finish(self) -> None:
        spent = duration(time.monotonic() - self._start)
        taken = f" ({self._skipped} without work: finished before, or empty)" if self._skipped else ""
        self._write(f"{self.what}: {self.done} of {self.total} in {spent}{taken}")


def duration(seconds: float) -> str:
    """12 s, 3 min, 2.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
