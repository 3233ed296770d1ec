"""Damaged artefacts: whatever reads them refuses them by name, and deleting what is named mends the run."""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from mithridate.artefacts import read_csv, read_json
from mithridate.digests import digest
from mithridate.errors import InputError
from tests.torture.runs import Run, content, differing, errors
from tests.workflow.conftest import Project

WRONG = "WRONG"
FLIPS = 20  # flipped bits tried in each file, one by one
# What is damaged at once: files that are read side by side rather than made from one another.
LAYERS = {
    "tables": ("*.csv", "*.csv.gz", "runs/*.json"),
    "answers": ("scores.h5", "votes.h5", "judged/*.h5", "dgn/*/*/*.h5", "relevance.h5"),
    "networks": ("*.safetensors", "strip.h5"),
    "made of data": ("subsets.h5", "poison/*.h5", "rab/*/data/*.h5", "badnet/data/*.h5"),
    "data": ("digits*/data/*.h5", "digits*/data/triggered/*.h5"),
}


def _truncated(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(1, len(data))]


def _flipped(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def _emptied(data: bytes, chance: random.Random) -> bytes:
    return b""


def _zeroed(data: bytes, chance: random.Random) -> bytes:
    """As some file systems leave a file when the power fails."""
    return bytes(len(data))


def _replaced(data: bytes, chance: random.Random) -> bytes:
    return b"something,else\n1,2\n"


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (_truncated, _flipped, _emptied, _zeroed, _replaced)


def reading(run: Run, folder: Path, seed: int) -> tuple[bool, str]:
    """Every artefact that anything reads, damaged in every way: whether reading it is refused."""
    chance, tried, harmless, wrong, files = random.Random(seed), 0, 0, [], 0
    shutil.rmtree(folder, ignore_errors=True)
    for path in _matching(run, (pattern for layer in LAYERS.values() for pattern in layer)):
        data, copy, files = path.read_bytes(), folder / path.relative_to(run.results), files + 1
        copy.parent.mkdir(parents=True, exist_ok=True)
        if (sums := path.with_name(f".{path.name}.sha256")).exists():
            shutil.copy(sums, copy.parent)
        copy.write_bytes(data)
        whole = _read(copy)
        for damage in [*DAMAGES, *[_flipped] * (FLIPS - 1)]:
            copy.write_bytes(damage(data, chance))
            tried += 1
            try:
                harmless += (equal := _read(copy) == whole)
                wrong += [] if equal else [f"{path}: {damage.__name__} was not noticed"]
            except InputError as error:
                wrong += [] if str(copy) in str(error) else [f"{path}: {damage.__name__}: {error}"]
            except Exception as error:
                wrong.append(f"{path}: {damage.__name__}: {error!r}")
        copy.unlink()
    text = f"{tried} damages of {files} files: {tried - harmless - len(wrong)} refused, {harmless} harmless"
    return not wrong, "; ".join([text, *wrong[:5]])


def layer(like: Run, folder: Path, expected: dict[str, str], name: str, seed: int) -> tuple[bool, str]:
    """Damage a layer of a finished run, call the same command, delete what it names, and so on until it is through."""
    run, named = _copy(like, folder), set[str]()
    damaged = _damage(_matching(run, LAYERS[name]), random.Random(f"{seed} {name}"))
    while (done := run.finish()).returncode:
        found = errors(done.stdout) - named
        if (
            "Traceback" in done.stdout
            or not found
            or not found <= {str(p.relative_to(run.project.folder)) for p in damaged}
        ):
            return False, done.stdout[-3000:]
        for one in found:
            (run.project.folder / one).unlink(missing_ok=True)
        named |= found
    outcomes = {file: _outcome(run.results / file, content) for file, content in expected.items()}
    wrong = [file for file, outcome in outcomes.items() if outcome == WRONG]
    shown = ", ".join([*(f"{count} {what}" for what, count in Counter(outcomes.values()).items()), *wrong])
    return bool(named) and not wrong, f"{len(damaged)} damaged, {len(named)} named and deleted; then {shown}"


def _outcome(path: Path, expected: str) -> str:
    """What became of an artefact."""
    if not path.exists():
        return "not needed again"
    try:
        _read(path)
    except InputError:
        return "not read again"
    return "equal" if content(path) == expected else WRONG


def checkpoints(like: Run, folder: Path, expected: dict[str, str], seed: int) -> tuple[bool, str]:
    """Everything is made again from damaged checkpoints."""
    run = _copy(like, folder)
    damaged = _damage((run.results / "checkpoints").rglob("*.safetensors"), random.Random(seed))
    for path in run.artefacts():
        path.unlink()
    done = run.finish()
    wrong = differing(expected, run.contents())
    text = f"{len(damaged)} damaged, then exit code {done.returncode} and {len(wrong)} of {len(expected)} artefacts different"
    return done.returncode == 0 and bool(damaged) and not wrong, text


def _damage(paths: Iterable[Path], chance: random.Random) -> list[Path]:
    paths = sorted(paths)
    for path in paths:
        path.write_bytes(chance.choice(DAMAGES)(path.read_bytes(), chance))
    return paths


def _copy(like: Run, folder: Path) -> Run:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(like.project.folder, folder, symlinks=True)
    return Run(Project(folder), like.targets, like.overlays)


def _matching(run: Run, patterns: Iterable[str]) -> list[Path]:
    patterns = tuple(patterns)
    return [path for path in run.artefacts() if any(path.match(pattern) for pattern in patterns)]


def _read(path: Path) -> str:
    """All that the file holds, as the workflow's jobs read it."""
    if path.suffix == ".json":
        return repr(read_json(path))
    if ".csv" in path.name:
        return read_csv(path).to_csv()
    return digest(path) if path.suffix in (".h5", ".safetensors") and path.name != "repaired.h5" else ""
