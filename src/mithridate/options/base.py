"""What all option models share."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """An option block: unknown keys are errors, attribute docstrings are the documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)
