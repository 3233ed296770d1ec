"""Which library files a piece of code depends on, read from its imports without running it.

Snakemake reruns a job when its script changes, but not when a module that the script imports does. Rules therefore
carry a digest of their script's import closure as a parameter, and checkpoints carry a digest of the trainer's.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from mithridate.errors import InputError

PACKAGE = "mithridate"
ROOT = Path(__file__).resolve().parent


def closure(*files: str | Path) -> list[Path]:
    """The library files that `files` import, directly or through others, and `files` within the library; sorted."""
    seen: set[Path] = set()
    waiting = [Path(file).resolve() for file in files]
    while waiting:
        file = waiting.pop()
        for found in (_imports(file) - seen) | ({file} - seen if ROOT in file.parents else set()):
            seen.add(found)
            waiting.append(found)
    return sorted(seen)


def digest(files: Iterable[Path]) -> str:
    """SHA-256 over the files' names and contents."""
    text = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        text.update(f"{file.name} {len(content)}\n".encode() + content)
    return text.hexdigest()


def model_file(name: str) -> list[Path]:
    """The file that defines an architecture: a registered one, or a user's own "package.module:function"."""
    if ":" not in name:
        return [ROOT / "models" / f"{name}.py"]
    module = name.split(":", 1)[0]
    local = Path(*module.split(".")).with_suffix(".py")
    if local.is_file():
        return [local]
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None or not found.origin:
        raise InputError(
            f"model {name!r}: no module {module} in the working directory or the environment; check the spelling."
        )
    return [Path(found.origin)]


def stamp(folder: str | Path) -> str:
    """A digest of the names, sizes and times of all files below a folder, whose contents are too many to read."""
    text = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            status = path.stat()
            text.update(f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return text.hexdigest()


@cache
def _imports(file: Path) -> frozenset[Path]:
    names: set[str] = set()
    for node in _statements(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(path for name in names for path in _files(name))


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """All statements, in blocks of any kind; what ast.walk does for expressions too takes most of its time."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting.extend(getattr(node, block, ()))


def _files(name: str) -> list[Path]:
    """The files that importing a module of the library runs: its own and its packages' __init__.py."""
    package, *rest = name.split(".")
    if package != PACKAGE:
        return []
    files, folder = [ROOT / "__init__.py"], ROOT
    for part in rest:
        if (folder / f"{part}.py").is_file():
            return [*files, folder / f"{part}.py"]
        folder = folder / part
        if not (folder / "__init__.py").is_file():
            break
        files.append(folder / "__init__.py")
    return files
