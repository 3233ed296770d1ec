"""One card for each GPU job: a lease against the other jobs of the same user on the same machine.

A leased card is a locked file. The lock (POSIX, fcntl) belongs to the process alone: it ends with the process, however
that ends, and no child inherits it. Other users' jobs, other programs, and containers with a /tmp of their own take
no part; where a scheduler sets CUDA_VISIBLE_DEVICES for each job, it decides.
"""

import fcntl
import os
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mithridate.errors import InputError

VARIABLE = "CUDA_VISIBLE_DEVICES"
# Not TMPDIR, which may differ between two workflows of one user.
FOLDER = Path(f"/tmp/mithridate-{os.getuid()}")
UUID = "GPU-"
BETWEEN = 1.0  # seconds between two looks at cards that are all taken


def hold_card() -> None:
    """Take a free card, or wait for one, and hold it until this process ends; CUDA_VISIBLE_DEVICES then names it alone.

    To be called before the process initialises CUDA. Does nothing where no card is visible, and where SLURM has given
    the job its one card; cards that it gave to one job in common are shared out within that job. Raises InputError
    where FOLDER cannot be used.
    """
    cards, job = visible_cards(), os.environ.get("SLURM_JOB_ID") if VARIABLE in os.environ else None
    if cards and not (job and len(cards) == 1):
        os.environ[VARIABLE] = take(cards, FOLDER, f"{job}-" if job else "")


def visible_cards() -> list[str]:
    """The cards that CUDA_VISIBLE_DEVICES leaves to this process (unset: all), in its order, each under one name.

    The name is the UUID; a number where nothing lists UUIDs. Numbers in the variable count as nvidia-smi counts, in PCI
    order. As in CUDA, the first entry that names no card ends the list.
    """
    asked, known = os.environ.get(VARIABLE), machine_cards()
    if asked is None:
        return known
    cards: list[str] = []
    for entry in map(str.strip, asked.split(",")):
        card = _name(entry, known)
        if card is None:
            break
        cards.append(card)
    return list(dict.fromkeys(cards))


def _name(entry: str, known: Sequence[str]) -> str | None:
    """What visible_cards calls the card of an entry of CUDA_VISIBLE_DEVICES; None where it names none."""
    if entry.isdecimal() and known:
        return known[int(entry)] if int(entry) < len(known) else None
    if entry.startswith(UUID) and known and known[0].startswith(UUID):  # CUDA takes the beginning of one as well
        return next((card for card in known if card.startswith(entry)), None)
    return entry if entry.isdecimal() or entry.startswith((UUID, "MIG-")) else None


def machine_cards() -> list[str]:
    """The UUIDs of this machine's cards, from nvidia-smi; without it the numbers of as many as /dev shows."""
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        said = ""
    uuids = [line.strip() for line in said.splitlines() if line.startswith(UUID)]
    return uuids or [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def take(cards: Sequence[str], folder: Path, prefix: str = "") -> str:
    """The first of `cards` that is free, held from now on by this process; waits, and says so, while none is.

    folder: of the locks, made where it is missing, this user's alone. prefix: of the locks' names; those of different
    prefixes do not exclude each other. Raises InputError where the folder is not this user's or not writable.
    """
    said = False
    while True:
        for card in cards:
            if _lock(folder, f"{prefix}{card}".replace("/", "_")):
                return card
        if not said:
            held = "the card" if len(cards) == 1 else f"all {len(cards)} cards"
            print(f"waiting for a GPU: other jobs hold {held} that this one may use", file=sys.stderr, flush=True)
            said = True
        time.sleep(BETWEEN)


def _lock(folder: Path, name: str) -> bool:
    """Whether this process now holds the lock; its file stays open, as closing it would release it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise InputError(f"{folder} is not a folder of yours, so that cards cannot be leased there: remove it.")
        file = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        return True
    except OSError as error:
        raise InputError(f"{folder}: no card can be leased there ({error}): make it a writable folder.") from error
