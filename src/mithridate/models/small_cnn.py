"""A small convolutional network for small images: two 3x3 convolutions with BatchNorm, 16 and 32 channels.

Pooling goes before ReLU: the two commute, and ReLU then works on a quarter of the values.
"""

from torch import nn


def build(channels: int, height: int, width: int, num_classes: int) -> nn.Sequential:
    """Images [B, channels, height, width], at least 4 x 4, to logits [B, num_classes]."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), num_classes),
    )
