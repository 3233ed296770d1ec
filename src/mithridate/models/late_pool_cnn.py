"""Two 3x3 convolutions with BatchNorm before the only pooling: it sees single pixels where they are, as a classifier
must that a backdoor of four pixels is to deceive."""

from torch import nn

CHANNELS = 32


def build(channels: int, height: int, width: int, num_classes: int) -> nn.Sequential:
    """Images [B, channels, height, width], at least 2 x 2, to logits [B, num_classes]."""
    return nn.Sequential(
        nn.Conv2d(channels, CHANNELS, 3, padding=1, bias=False),
        nn.BatchNorm2d(CHANNELS),
        nn.ReLU(),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
        nn.BatchNorm2d(CHANNELS),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(CHANNELS * (height // 2) * (width // 2), num_classes),
    )
