"""Gaussian noise that is a function of a name alone, drawn on the device that uses it."""

import torch
from torch import Tensor

from mithridate.streams import Stream


def gaussian(shape: tuple[int, ...], *name: str | int, device: str = "cpu") -> Tensor:
    """Standard normal float32 numbers of the stream `name`, equal for one kind of device and version of PyTorch."""
    generator = torch.Generator(device).manual_seed(Stream("gaussian", *name).seed())
    return torch.randn(shape, generator=generator, device=device)
