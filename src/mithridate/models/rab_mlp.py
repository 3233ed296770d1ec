"""A small dense network for RAB on 8 x 8 digits; one logit for two classes."""

from torch import nn

HIDDEN = 32


def build(channels: int, height: int, width: int, num_classes: int) -> nn.Sequential:
    """Images [B, channels, height, width] to logits [B, num_classes], or [B, 1] for two classes."""
    outputs = 1 if num_classes == 2 else num_classes
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * height * width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
    )
