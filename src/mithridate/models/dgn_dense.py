"""The MNIST target of DeepCustom: five dense layers of 30, 27,580 parameters for 28 x 28 and ten classes."""

from itertools import pairwise

from torch import nn

from mithridate.models.glorot import glorot_uniform

LAYERS, WIDTH = 5, 30


def build(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
    """Images [B, channels, height, width] to logits [B, num_classes]."""
    widths = [channels * height * width, *[WIDTH] * LAYERS]
    dense = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    network = nn.Sequential(nn.Flatten(), *dense, nn.Linear(WIDTH, num_classes))
    glorot_uniform(network)
    return network
