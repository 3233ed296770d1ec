"""Configuration files read without Snakemake, for what it does not say: which file and line is wrong.

Snakemake keeps the last of two equal keys without a word, and calls every file that it cannot read "not valid JSON or
YAML".
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mithridate.errors import InputError, short
from mithridate.options.root import Options, parse

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # builds plain values alone
MOST_BYTES, MOST_NODES, DEEPEST = 1 << 20, 100_000, 50
TEMPLATES = "__use_yte__"  # with this key Snakemake runs the file's expressions as code


def check(paths: Iterable[str | Path]) -> Options:
    """The options of the defaults with these files laid over them, one after another. Raises InputError for a file that
    cannot be read, and for whatever the options refuse."""
    config: dict[str, Any] = Options().model_dump(mode="json")
    for path in paths:
        merge(config, read(path))
    return parse(config)


def read(path: str | Path) -> dict[str, Any]:
    """The keys of a YAML or JSON file, as plain values.

    Raises InputError, with the line, for text that is no YAML, keys that stand twice, tags that ask for Python objects,
    aliases that multiply, templates, and anything but keys at the top.
    """
    text = _text(Path(path))
    try:
        values = _parsed(path, text)
    except InputError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" in line {mark.line + 1}" if mark else ""
        raise InputError(f"{path} cannot be read{line} ({short(error.problem)}): mend that line.") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is no YAML ({short(str(error).splitlines()[0])}): save it as plain text.") from error
    if not isinstance(values, dict) or not values:
        raise InputError(f"{path} holds no keys: write at least one, as in config/config.yaml.")
    return values


def _parsed(path: str | Path, text: str) -> Any:
    """The values of JSON, else of YAML, as Snakemake tries them."""

    def block(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _check_keys(path, [(key, 0) for key, _ in pairs])
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=block)
    except json.JSONDecodeError:
        _check_depth(path, text)
        _check_nodes(path, yaml.compose(text, LOADER))
        return yaml.load(text, LOADER)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened ({error.strerror}): mend the path of the configuration file."
        ) from error
    if len(content) > MOST_BYTES:
        raise InputError(f"{path} has more than {MOST_BYTES} bytes: give a configuration file, no data.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path} is not UTF-8 in line {line}: save it as UTF-8.") from error


def _check_depth(path: str | Path, text: str) -> None:
    """That blocks and lists are not nested deeply, where libyaml would use up the stack."""
    depth = 0
    for event in yaml.parse(text, LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"{path} is nested too deeply or repeats itself (&, *): write its values out.")


def _check_nodes(path: str | Path, root: yaml.Node | None) -> None:
    """That no key stands twice in a block, nothing is nested in itself or deeply, and aliases do not multiply."""
    count = 0
    waiting: list[tuple[yaml.Node, int]] = [(root, 0)] if root is not None else []
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if count > MOST_NODES or depth > DEEPEST:
            raise InputError(f"{path} is nested too deeply or repeats itself (&, *): write its values out.")
        if isinstance(node, yaml.MappingNode):
            keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            _check_keys(path, [(key.value, key.start_mark.line + 1) for key in keys])
        waiting += [(child, depth + 1) for child in _children(node)]


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _check_keys(path: str | Path, keys: Iterable[tuple[str, int]]) -> None:
    """That the keys of a block, with their lines, if known, are different ones and no templates."""
    seen: set[str] = set()
    for key, line in keys:
        if key in seen:
            where = f", in line {line}" if line else ""
            raise InputError(f"{path} has the key {short(key)} twice in one block{where}: join the two.")
        if key == TEMPLATES:
            raise InputError(f"{path} asks for code to be run ({TEMPLATES}): write plain values.")
        seen.add(key)


def merge(config: dict[str, Any], over: Mapping[Any, Any]) -> None:
    """As Snakemake lays one file over another: block by block."""
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), dict):
            merge(config[key], value)
        else:
            config[key] = value
