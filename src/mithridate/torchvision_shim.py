"""Imports torchvision, also where its compiled part does not match PyTorch.

torchvision's usual wheel is built for CUDA. Beside a CPU build of PyTorch its compiled library does not
load, and `import torchvision` fails on registering `nms`, an operator that only detection models use.
Declaring the operators before the import is enough: data sets, transforms and models then work, compiled
operators (nms, image decoding) do not. On an intact installation nothing is touched.
"""

import importlib
import sys
from typing import Any

_declared: list[Any] = []  # an operator lives as long as its Library object


def import_torchvision() -> Any:
    """The module torchvision."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # a half-imported package would be returned as it is
    from torch.library import Library

    library = Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
    return importlib.import_module("torchvision")
