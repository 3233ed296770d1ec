"""A small network for 8 x 8 digits under noise: two 3x3 convolutions with 16 and 32 channels, a dense layer of 64.

It has no BatchNorm, so that an image's logits never depend on the other images of its batch, in no mode.
"""

from torch import nn


def build(channels: int, height: int, width: int, num_classes: int) -> nn.Sequential:
    """Images [B, channels, height, width], at least 4 x 4, to logits [B, num_classes].

    Pooling goes before ReLU: the two commute, and ReLU then works on a quarter of the values.
    """
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), 64),
        nn.ReLU(),
        nn.Linear(64, num_classes),
    )
