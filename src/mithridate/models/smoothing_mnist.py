"""The network for MNIST under randomized smoothing (Mehra et al., CVPR 2021): 431,080 parameters for ten classes."""

from torch import nn


def build(channels: int, height: int, width: int, num_classes: int) -> nn.Sequential:
    """Images [B, channels, height, width], at least 16 x 16, to logits [B, num_classes].

    Pooling goes before ReLU: the two commute, and ReLU then works on a quarter of the values.
    """
    side = [((size - 4) // 2 - 4) // 2 for size in (height, width)]
    return nn.Sequential(
        nn.Conv2d(channels, 20, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(50 * side[0] * side[1], 500),
        nn.ReLU(),
        nn.Linear(500, num_classes),
    )
