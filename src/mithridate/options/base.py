"""What all option models share."""

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator


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
    text = f"{value:.12f}".rstrip("0").rstrip(".")
    return text if float(text) == value else repr(value)


class Strict(BaseModel):
    """An option block: unknown keys are errors, attribute docstrings are the documentation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
    )

    @model_validator(mode="before")
    @classmethod
    def _nothing(cls, values: Any) -> Any:
        """Nested values from Snakemake's --config are text: there, null is a word."""
        if not isinstance(values, dict):
            return values
        return {key: None if value in ("null", "None", "~", "") else value for key, value in values.items()}
