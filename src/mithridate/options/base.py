"""What all option models share."""

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple | None) else [value]


Listed = BeforeValidator(_listed)
"""A single value stands for a list of one."""


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
