"""A run's configuration beside the defaults."""

from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd
from pydantic import BaseModel

from mithridate.options.document import inline
from mithridate.options.root import Options

NOWHERE, EMPTY = "not there", "[]"


def table(options: Options) -> pd.DataFrame:
    """Every key with its value, default and meaning; those that differ from the defaults first."""
    own, usual = ({key: (value, meaning) for key, value, meaning in _leaves(one)} for one in (options, Options()))
    for emptied in [key for key, (value, _) in own.items() if value == EMPTY and f"{key}[0]" in _blocks(usual)]:
        within = [key for key in usual if key.startswith(f"{emptied}[")]
        blocks = len(_blocks(dict.fromkeys(within)))
        usual = {key: known for key, known in usual.items() if key not in within}
        usual[emptied] = (f"{blocks} block{'s' if blocks > 1 else ''}", "")
    usual = {key: known for key, known in usual.items() if key in own or known[0] != EMPTY}  # filled: shown by blocks
    rows = [
        {
            "key": key,
            "value": own[key][0] if key in own else NOWHERE,
            "default": usual[key][0] if key in usual else NOWHERE,
            "meaning": (own.get(key) or usual[key])[1],
        }
        for key in dict.fromkeys([*own, *usual])
    ]
    whole = pd.DataFrame(rows)
    whole.insert(1, "state", (whole["value"] != whole["default"]).map({True: "changed", False: "default"}))
    return whole.sort_values("state", kind="stable", ignore_index=True)


def _blocks(keys: Iterable[str]) -> set[str]:
    """The blocks that keys lie in, of which lists hold several."""
    return {key[: key.rindex("]") + 1] for key in keys if "]" in key}


def _leaves(value: Any, key: str = "", meaning: str = "") -> Iterator[tuple[str, str, str]]:
    """Key, value and meaning of everything in a block; blocks in a list are numbered from 0."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from _leaves(getattr(value, name), f"{key}.{name}" if key else name, field.description or "")
    elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
        for number, block in enumerate(value):
            yield from _leaves(block, f"{key}[{number}]")
    else:
        yield key, inline(value), meaning
