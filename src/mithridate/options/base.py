"""What all option models share."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mithridate.errors import short

LARGEST = 1_000_000_000
MOST_SEEDS = 1000

Whole = Annotated[int, Field(ge=0, le=LARGEST)]
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Batch = Annotated[int, Field(ge=2, le=LARGEST)]
Seeds = Annotated[int, Field(ge=1, le=MOST_SEEDS)]
NAME = r"^[A-Za-z0-9][A-Za-z0-9_]*$"
LONGEST_NAME = 60  # of which names of files and folders are made


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple | None) else [value]


Listed = BeforeValidator(_listed)
"""A single value stands for a list of one."""


def distinct(values: list[Any]) -> list[Any]:
    """The values. Raises ValueError where one stands twice."""
    if len(set(values)) != len(values):
        raise ValueError("the same value stands twice")
    return values


def number(value: float) -> str:
    """A number in a file's name: 1, 0.5, 0.00001."""
    text = format(Decimal(repr(value)), "f") if value == 0 or 1e-12 < abs(value) < 1e15 else repr(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def shown(value: Any) -> str:
    """A value of a configuration as a message shows it: as YAML has it, in one short line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    try:
        return short(repr(value))
    except ValueError:  # a number of more digits than Python writes
        return "a huge number"


class Strict(BaseModel):
    """An option block: unknown keys are errors, attribute docstrings are the documentation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
    )

    @model_validator(mode="before")
    @classmethod
    def _nothing(cls, values: Any) -> Any:
        """Nested values from Snakemake's --config are text: there, null is a word. In YAML, yes and no are none."""
        if not isinstance(values, dict):
            return values
        for key, field in cls.model_fields.items():
            given = values.get(key)
            if field.annotation is not bool and any(
                isinstance(one, bool) for one in (given if isinstance(given, list) else [given])
            ):
                raise ValueError(f"{key} is {shown(given)}, where neither true nor false (yes, no) is meant; mend it")
        return {key: None if value in ("null", "None", "~", "") else value for key, value in values.items()}
