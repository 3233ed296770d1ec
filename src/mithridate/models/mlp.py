"""A multilayer perceptron with one hidden layer."""

from torch import nn

HIDDEN = 64


def build(channels: int, height: int, width: int, num_classes: int) -> nn.Sequential:
    """Images [B, channels, height, width] to logits [B, num_classes]."""
    pixels = channels * height * width
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, num_classes))
