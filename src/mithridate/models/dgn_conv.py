"""The CIFAR-10 target of DeepCustom: three convolutions and two dense layers, 122,570 parameters for 3 x 32 x 32 and
ten classes. It is TensorFlow's tutorial network."""

from torch import nn

from mithridate.errors import InputError
from mithridate.models.glorot import glorot_uniform

LEAST = 18  # below, nothing is left after two poolings and three convolutions


def build(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
    """Images [B, channels, height, width], at least 18 x 18, to logits [B, num_classes]."""
    if min(height, width) < LEAST:
        raise InputError(f"images of {height} x {width} are too small for dgn_conv (18 x 18): choose another model.")
    rows, columns = (((side - 2) // 2 - 2) // 2 - 2 for side in (height, width))
    network = nn.Sequential(
        nn.Conv2d(channels, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * rows * columns, 64),
        nn.ReLU(),
        nn.Linear(64, num_classes),
    )
    glorot_uniform(network)
    return network
