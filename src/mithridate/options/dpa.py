"""Options of partition aggregation (DPA and Run-off Election)."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from mithridate.options.base import Count, Listed, Strict, distinct
from mithridate.options.certificates import CERTIFICATES, names
from mithridate.options.models import Model
from mithridate.options.training import TrainingOptions


class ScoringOptions(Strict):
    precision: Literal["fp32", "bf16"] = "fp32"
    """arithmetic of the score matrix; bf16 is faster where the processor has it and reports what it changed on a sample; the last layer is fp32 in any case"""
    batch_size: Count = 256
    """images per forward pass; the last batch is padded, because the batch's shape changes bits"""


Method = Literal[*CERTIFICATES, "collective"]  # type: ignore[valid-type]
PARTITIONED, FINITE = names(overlapping=False), names(overlapping=True)  # certificates for d = 1 and for d > 1


class CollectiveOptions(Strict):
    chunk: Annotated[int, Field(ge=1, le=200)] = 16
    """test images whose joint worst case is solved at once; fewer is faster and bounds more loosely"""
    nodes: Count = 1000
    """branch-and-bound nodes of the solver for each chunk and each of its parts, for up to 50 partitions (proportionally fewer for more); where they run out, its upper bound is used, which is sound, and collective.csv counts it"""
    seconds: Annotated[float, Field(gt=0)] = 60.0
    """time limit for a chunk and radius, for a machine that stalls; a limit on `nodes` does not depend on the machine's speed"""
    radii: Annotated[list[Count], Listed, Field(min_length=1)] = [1, 2, 5, 10, 15, 20, 25]
    """attack sizes for which it is computed"""


class DpaOptions(Strict):
    k: Annotated[list[Annotated[int, Field(ge=1, le=1_000_000)]], Listed, Field(min_length=1)] = [50]
    """numbers of partitions, each a run of its own"""
    hash: Literal["pixel_sum", "content"] = "pixel_sum"
    """what assigns an image to its partition: the sum of its pixels, or SHA-256 of its pixels; never the label"""
    d: Annotated[list[Annotated[int, Field(ge=1, le=1024)]], Listed, Field(min_length=1)] = [1, 4]
    """subsets that each of the k·d buckets goes into: 1 is partition aggregation, more is Finite Aggregation with k·d base classifiers, each on d buckets"""
    seeds: Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Listed, Field(min_length=1)] = [1]
    """base classifiers trained per subset, whose scores are added (boosting); each number is a run of its own"""
    methods: Annotated[list[Method], Listed, Field(min_length=1)] = [
        "dpa",
        "runoff",
        "finite",
        "finite_runoff",
        "collective",
    ]
    """certificates computed from the same score matrix: for d = 1 Deep Partition Aggregation, Run-off Election and the collective certificate, for d > 1 Finite Aggregation (finite) and its run-off (finite_runoff)"""
    collective: CollectiveOptions = CollectiveOptions()
    """how the collective certificate is computed"""
    model: Model = "small_cnn"
    """architecture of the base classifiers: nin, small_cnn, mlp, or your own as package.module:function in one file"""
    training: TrainingOptions = TrainingOptions()
    """how each base classifier is trained"""
    scoring: ScoringOptions = ScoringOptions()
    """how the test images are scored"""

    @field_validator("k", "d", "seeds", "methods")
    @classmethod
    def _distinct(cls, values: list[object]) -> list[object]:
        return distinct(values)
