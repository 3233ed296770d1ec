"""Options of partition aggregation (DPA and Run-off Election)."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt, field_validator

from mithridate.options.base import Strict
from mithridate.options.training import TrainingOptions


class ScoringOptions(Strict):
    precision: Literal["fp32", "bf16"] = "fp32"
    """arithmetic of the score matrix; bf16 is faster where the processor has it and reports what it changed on a sample; the last layer is fp32 in any case"""
    batch_size: PositiveInt = 256
    """images per forward pass; the last batch is padded, because the batch's shape changes bits"""


def _listed(value: object) -> object:
    """A single value stands for a list of one."""
    return value if isinstance(value, list | tuple) else [value]


class DpaOptions(Strict):
    k: Annotated[list[Annotated[int, Field(ge=1, le=1_000_000)]], BeforeValidator(_listed), Field(min_length=1)] = [50]
    """numbers of partitions, each a run of its own"""
    hash: Literal["pixel_sum", "content"] = "pixel_sum"
    """what assigns an image to its partition: the sum of its pixels, or SHA-256 of its pixels; never the label"""
    methods: Annotated[list[Literal["dpa", "runoff"]], BeforeValidator(_listed), Field(min_length=1)] = [
        "dpa",
        "runoff",
    ]
    """certificates computed from the same score matrix: Deep Partition Aggregation, Run-off Election"""
    model: Annotated[str, Field(pattern=r"^(nin|small_cnn|mlp|[\w.]+:\w+)$")] = "small_cnn"
    """architecture of the base classifiers: nin, small_cnn, mlp, or your own as package.module:function in one file"""
    training: TrainingOptions = TrainingOptions()
    """how each base classifier is trained"""
    scoring: ScoringOptions = ScoringOptions()
    """how the test images are scored"""

    @field_validator("k", "methods")
    @classmethod
    def _distinct(cls, values: list[object]) -> list[object]:
        if len(set(values)) != len(values):
            raise ValueError("the same value stands twice")
        return values
