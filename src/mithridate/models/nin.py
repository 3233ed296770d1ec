"""Network in Network as Levine & Feizi (ICLR 2021) train it: 1,005,642 parameters for CIFAR-10."""

from torch import nn


def build(channels: int, height: int, width: int, num_classes: int) -> nn.Sequential:
    """Images [B, channels, height, width] to logits [B, num_classes]."""
    layers: list[nn.Module] = []

    def conv(inputs: int, outputs: int, kernel: int) -> int:
        layers.append(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False))
        layers.extend([nn.BatchNorm2d(outputs), nn.ReLU()])
        return outputs

    last = conv(conv(conv(channels, 192, 5), 160, 1), 96, 1)
    layers.append(nn.MaxPool2d(3, 2, padding=1))
    last = conv(conv(conv(last, 192, 5), 192, 1), 192, 1)
    layers.append(nn.AvgPool2d(3, 2, padding=1))
    last = conv(conv(conv(last, 192, 3), 192, 1), 192, 1)
    layers.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, num_classes)])
    return nn.Sequential(*layers)
