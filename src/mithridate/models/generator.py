"""The data generating networks of DeepCustom: convolutional autoencoders from an image to one of the same shape.

Keras' initialisation; BatchNorm with PyTorch's constants (Keras': momentum .99, ε .001), which are those of the mode
that it generates in: its own running statistics.
"""

from torch import nn

from mithridate.errors import InputError
from mithridate.models.glorot import glorot_uniform


def build(channels: int, height: int, width: int, num_classes: int = 0) -> nn.Sequential:
    """Images [B, channels, height, width] in [0, 1] to the same: of 28 x 28 pixels with 175,009 parameters for one
    channel, of 32 x 32 with 553,667 for three. num_classes is not used. Raises InputError for other sizes."""
    if (height, width) == (28, 28):
        network = _small(channels)
    elif (height, width) == (32, 32):
        network = _large(channels)
    else:
        raise InputError(
            f"images of {height} x {width} (height x width): generators are defined for 28 x 28 and 32 x 32;"
            " choose such a data set, or dgn.generators: []."
        )
    glorot_uniform(network)
    return network


def _small(channels: int) -> nn.Sequential:
    """That of MNIST: 28, 14, 7, 5, 3 pixels and back."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(64, 128, 3),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.ReLU(),
        *_up(128, 64, 3, 2),
        *_up(64, 32, 2, 2),
        nn.ConvTranspose2d(32, channels, 2, stride=2),
        nn.Sigmoid(),
    )


def _large(channels: int) -> nn.Sequential:
    """That of CIFAR-10: 32, 30, 14, 12, 5 pixels and back by 11, 14, 30."""
    widths, strides = (channels, 32, 64, 128, 128), (1, 2, 1, 2)
    down = [
        part
        for a, b, stride in zip(widths, widths[1:], strides, strict=False)
        for part in (nn.Conv2d(a, b, 3, stride=stride), nn.ReLU())
    ]
    up = [*_up(128, 128, 3, 2), *_up(128, 64, 4, 1), *_up(64, 32, 4, 2)]
    return nn.Sequential(*down, *up, nn.ConvTranspose2d(32, channels, 3), nn.Sigmoid())


def _up(given: int, made: int, kernel: int, stride: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(given, made, kernel, stride=stride), nn.ReLU(), nn.BatchNorm2d(made)]
