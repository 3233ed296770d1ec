"""What holds when runs are killed, the disk is full, artefacts are damaged: `python -m tests.torture`, a table.

Everything is compared with an undisturbed run, artefact by artefact, but for provenance and times.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.torture import damage, disk, kills
from tests.torture.runs import SHORT, SHORT_TARGETS, TINY, Run, is_root
from tests.workflow.conftest import Project

SIZES = {  # targets and overlays
    "short": (SHORT_TARGETS, (TINY, SHORT)),
    "tiny": ((), (TINY,)),
    "default": ((), ()),
}
NEEDS_ROOT = "SKIPPED: mounting a file system needs root"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument(
        "--size", choices=SIZES, default="tiny", help="short: a part; tiny: all parts, as small as can be"
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--folder", type=Path, help="keep the runs here, and use the undisturbed one that is here")
    parser.add_argument("--only", nargs="+", default=[], help="parts that are done: kills together disk damage")
    given = parser.parse_args()
    print(f"size {given.size}, seed {given.seed}", flush=True)
    with TemporaryDirectory() as temporary:
        return _table(given, given.folder or Path(temporary))


def _table(given: argparse.Namespace, folder: Path) -> int:
    start, seed = time.monotonic(), given.seed
    like = Run.fresh(folder / "undisturbed", Run(Project(folder), *SIZES[given.size]), keep=True)
    done = like.finish()
    if done.returncode:
        sys.exit(f"the undisturbed run fails:\n{done.stdout[-3000:]}")
    expected = like.contents()
    seconds = time.monotonic() - start
    print(f"{'undisturbed':22} {seconds:6.0f} s  {len(expected)} artefacts", flush=True)
    size = sum(path.stat().st_size for path in like.results.rglob("*") if path.is_file())
    root = is_root()
    parts: dict[str, Callable[[], tuple[bool, str]]] = {
        "kills": lambda: kills.torture(like, folder / "killed", expected, given.kills, seed, seconds),
        "together": lambda: kills.together(like, folder / "together", expected),
        "disk full": lambda: disk.full(like, folder / "full", expected, size) if root else (True, NEEDS_ROOT),
        "disk read-only": lambda: disk.read_only(like, folder / "read_only") if root else (True, NEEDS_ROOT),
        "damage, reading": lambda: damage.reading(like, folder / "damaged", seed),
        "damage, checkpoints": lambda: damage.checkpoints(like, folder / "damaged", expected, seed),
    }
    for name in damage.LAYERS:
        parts[f"damage, {name}"] = lambda name=name: damage.layer(like, folder / "damaged", expected, name, seed)
    good = True
    for name, part in parts.items():
        if not given.only or name.split(",")[0].split()[0] in given.only:
            start = time.monotonic()
            held, text = part()
            good &= held
            print(f"{name:22} {time.monotonic() - start:6.0f} s  {'' if held else 'FAILED: '}{text}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
