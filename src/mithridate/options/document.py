"""Generates config/config.yaml, config/schema.json and config/README.md from the option models."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mithridate.atomic import write_bytes
from mithridate.options.base import LARGEST
from mithridate.options.root import Options

GENERATED = "generated from src/mithridate/options by `make config`"


def documents() -> dict[str, str]:
    """File name to content."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Options.model_json_schema()}
    return {
        "config.yaml": f"# The default run: data that ships inside scikit-learn, minutes on two cores.\n# Every key, with its default; {GENERATED}.\n\n"
        + "\n".join(_yaml(Options(), 0))
        + "\n",
        "schema.json": json.dumps(schema, indent=2) + "\n",
        "README.md": _table(),
    }


def write(folder: Path) -> None:
    for name, text in documents().items():
        write_bytes(folder / name, text.encode())


def _yaml(options: BaseModel, depth: int, explained: set[type] | None = None) -> Iterator[str]:
    """YAML of a block, commented where keys stand for the first time."""
    explained = set() if explained is None else explained
    pad, comments = "  " * depth, type(options) not in explained
    explained.add(type(options))
    for key, field in type(options).model_fields.items():
        value = getattr(options, key)
        if comments:
            yield f"{pad}# {field.description}"
        if isinstance(value, BaseModel):
            yield f"{pad}{key}:" if type(value) not in explained else f"{pad}{key}:  # keys as above"
            yield from _yaml(value, depth + 1, explained)
        elif _blocks(value):
            yield f"{pad}{key}:"
            for block in value:
                yield f"{pad}  -"
                yield from _yaml(block, depth + 2, explained)
        else:
            yield f"{pad}{key}: {inline(value)}"


def _blocks(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], BaseModel)


def inline(value: Any) -> str:
    if isinstance(value, float) and value < 1e-2 and value:
        return repr(value)
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("...").strip()


def _table() -> str:
    lines = [
        "# Options",
        "",
        f"({GENERATED})",
        "",
        "`config.yaml` holds every key with its default. An overlay names only what differs:",
        "`snakemake --cores 2 results/dpa_cert.csv --configfile config/mnist.yaml`. One key can be changed on the command",
        "line: `--config seed=1` or, for a nested one, `--config 'dpa={k: [10, 50]}'`. A mistyped key, a wrong type or an",
        "impossible value stops the workflow before any job starts. Whole numbers go up to 1,000,000,000.",
        "`mithridate check FILE` reads configuration files without running anything, and says what is wrong in which line.",
        "",
        "| key | default | allowed | meaning |",
        "|---|---|---|---|",
    ]
    schema = Options.model_json_schema()
    lines += [
        f"| `{key}` | `{default}` | {allowed} | {text} |"
        for key, default, allowed, text in _rows(Options(), schema, schema, "")
    ]
    return "\n".join(lines) + "\n"


def _rows(
    options: BaseModel, schema: dict[str, Any], root: dict[str, Any], prefix: str
) -> Iterator[tuple[str, str, str, str]]:
    for key, field in type(options).model_fields.items():
        value, entry = getattr(options, key), schema["properties"][key]
        if isinstance(value, BaseModel):
            yield from _rows(value, root["$defs"][type(value).__name__], root, f"{prefix}{key}.")
        elif _blocks(value):
            yield (
                f"{prefix}{key}",
                "in config.yaml",
                "list of blocks (below: what a block says of itself)",
                field.description or "",
            )
            yield from _block(type(value[0]), root, f"{prefix}{key}[].")
        elif "$ref" in entry.get("items", {}):  # a list of blocks that is empty by default
            yield f"{prefix}{key}", "[]", "list of blocks (below: what a block says of itself)", field.description or ""
            yield from _block(get_args(field.annotation)[0], root, f"{prefix}{key}[].")
        else:
            text = (field.description or "").replace("|", "\\|")
            yield (
                f"{prefix}{key}",
                "required" if value is PydanticUndefined else inline(value),
                _allowed(entry).replace("|", "\\|"),
                text,
            )


def _block(block: type[BaseModel], root: dict[str, Any], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    """The keys of one block of a list; those without a default are required."""
    missing: dict[str, Any] = {
        key: PydanticUndefined for key, field in block.model_fields.items() if field.is_required()
    }
    yield from _rows(block.model_construct(**missing), root["$defs"][block.__name__], root, prefix)


def _allowed(entry: dict[str, Any]) -> str:
    """A JSON schema entry in a few words."""
    if "anyOf" in entry:
        return " or ".join(_allowed(part) for part in entry["anyOf"])
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    if entry.get("type") == "array":
        items = entry.get("items") or entry["prefixItems"][0]
        count = f"{entry['maxItems']} of " if "maxItems" in entry else "list of "
        return count + _allowed(items)
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {entry[name]:g}" for name, sign in words.items() if entry.get(name, LARGEST) != LARGEST]
    return " ".join([entry.get("type", "any"), ", ".join(bounds)]).strip()
