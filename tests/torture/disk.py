"""A full disk and a read-only folder of results: one sentence, nothing half-written, and the run goes on afterwards."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.torture.runs import Run, differing

SHARE = 0.4  # of what the results take


def full(like: Run, folder: Path, expected: dict[str, str], size: int) -> tuple[bool, str]:
    """Results on a file system of a part of their size, which is enlarged afterwards."""
    run = Run.fresh(folder, like)
    with _mounted(run.results, "-t", "tmpfs", "-o", f"size={int(SHARE * size)}", "tmpfs"):
        done = run.finish()
        # Ours name the file; Snakemake's own, where its records or logs find no room, do not.
        said = sorted(line for line in done.stdout.splitlines() if "No space left on device" in line)[::-1]
        clean = "Traceback" not in done.stdout and not run.left()
        _call("mount", "-o", f"remount,size={10 * size}", run.results)
        again = run.finish()
        equal = again.returncode == 0 and not differing(expected, run.contents())
    return bool(
        done.returncode and said and clean and equal
    ), f"{said[0] if said else done.stdout[-500:]} Afterwards equal: {equal}."


def read_only(like: Run, folder: Path) -> tuple[bool, str]:
    """A finished run's results made read-only; then a part of them is asked for anew."""
    run = Run.fresh(folder, like)
    run.results.mkdir(exist_ok=True)
    with _mounted(run.results, "--bind", run.results):
        _call("mount", "-o", "remount,ro,bind", run.results)
        done = run.finish()
    said = [line for line in done.stdout.splitlines() if "Read-only file system" in line]
    good = done.returncode != 0 and len(said) == 1 and "Traceback" not in done.stdout
    return good, said[0] if said else done.stdout[-500:]


@contextmanager
def _mounted(place: Path, *how: object) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    _call("mount", *how, place)
    try:
        yield
    finally:
        _call("umount", place)


def _call(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)
