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
    return Normal(*name, device=device).fill(torch.empty(shape, device=device))


class Normal:
    """The numbers of `gaussian` of the same name, some at a time."""

    def __init__(self, *name: str | int, device: str = "cpu") -> None:
        stream = Stream("gaussian", *name)
        on_card = device != "cpu"
        self._card = torch.Generator(device).manual_seed(stream.seed()) if on_card else None
        self._cpu = stream.generator()

    def fill(self, out: Tensor) -> Tensor:
        """Put the next numbers into a float32 tensor of any shape, and return it."""
        if self._card is not None:
            return out.normal_(generator=self._card)
        return out.copy_(torch.from_numpy(self._cpu.standard_normal(out.shape, np.float32)))
