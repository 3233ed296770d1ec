"""Gaussian noise that is a function of a name alone, drawn on the device that uses it."""

import numpy as np
import torch
from torch import Tensor

from mithridate.streams import Stream


def gaussian(shape: tuple[int, ...], *name: str | int, device: str = "cpu") -> Tensor:
    """Standard normal float32 numbers of the stream `name`, equal for one kind of device and version of its library.

    On a CPU NumPy draws them from the stream's own 128-bit key: PyTorch's CPU generator takes 32 bits of a seed, so
    that among the 200,000 names of a large run some would be the same noise. On a card PyTorch draws, from 63 bits.
    """
    stream = Stream("gaussian", *name)
    if device == "cpu":
        return torch.from_numpy(stream.generator().standard_normal(shape, np.float32))
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(stream.seed()), device=device)
