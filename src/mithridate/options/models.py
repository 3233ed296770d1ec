"""Names of architectures, known without importing any of them."""

from typing import Annotated

from pydantic import Field

NAMES = (
    "nin",
    "small_cnn",
    "late_pool_cnn",
    "mlp",
    "rab_mlp",
    "rab_cnn",
    "rab_resnet",
    "smoothing_digits",
    "smoothing_mnist",
    "resnet20",
    "deepid",
    "dgn_dense",
    "dgn_conv",
)

MODEL = rf"^({'|'.join(NAMES)}|[\w.]+:\w+)$"
Model = Annotated[str, Field(pattern=MODEL)]
