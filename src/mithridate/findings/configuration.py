"""The options of one part of a run, and the command that repeats it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from mithridate.findings.parts import command
from mithridate.options.reading import check
from mithridate.options.root import Options

SHARED = ("dataset", "data", "seed", "confidence")
BLOCKS = {"dpa": ("dpa", "attacks"), "backdoor": ("dpa", "attacks", "single")}
"""Blocks of options that a part depends on, beside SHARED; where a part is not named, that of its own name."""


def of_part(part: str, options: Options) -> dict[str, Any]:
    """The options that the part depends on, whole and plain, without what differs between machines."""
    whole = options.model_dump(mode="json")
    chosen = {name: whole[name] for name in (*SHARED, *BLOCKS.get(part, (part,)))}
    return {**chosen, "data": {key: value for key, value in whole["data"].items() if key != "root"}}


def changed(part: str, options: Options, base: Options | None = None) -> dict[str, Any]:
    """Where the options of a part differ from the defaults, or from `base`: nested, lists being one value."""
    return _difference(of_part(part, base or Options()), of_part(part, options))


def repeat(part: str, options: Options, files: Sequence[str]) -> str:
    """The command that makes the part's tables: its configuration files, and what they do not say."""
    more = changed(part, options, check(files))
    texts = [f"{key}={_flow(value)}" for key, value in more.items()]
    run = (["--configfile", *files] if files else []) + (["--config", *map(shlex.quote, texts)] if texts else [])
    return command(part, " ".join(run))


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n").removesuffix("\n...")


def _difference(base: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in ours.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            found |= {key: inner} if (inner := _difference(base[key], value)) else {}
        elif value != base.get(key):
            found[key] = value
    return found
