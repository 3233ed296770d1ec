"""RAB's network for MNIST (Weber et al., S&P 2023, public code): 276,417 parameters for two classes."""

from torch import nn


def build(channels: int, height: int, width: int, num_classes: int) -> nn.Sequential:
    """Images [B, channels, height, width], at least 16 x 16, to logits [B, num_classes], or [B, 1] for two classes.

    Pooling goes before ReLU: the two commute, and ReLU then works on a quarter of the values.
    """
    outputs = 1 if num_classes == 2 else num_classes
    side = [((size - 4) // 2 - 4) // 2 for size in (height, width)]
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * side[0] * side[1], 512),
        nn.ReLU(),
        nn.Linear(512, outputs),
    )
