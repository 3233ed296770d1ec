"""DeepID, the face recognition network of the published BadNets (CSAW-HackML-2020): 601,643 parameters for 55 x 47
colour images and 1283 identities.

Three pooled convolutions; their features go into `fc_1` as they are and into `fc_2` through a fourth convolution, and
the sum of the two gives the logits. All convolutions are 'valid'. The names of the layers are those of the published
Keras files.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mithridate.errors import InputError

LAYERS = ("conv_1", "conv_2", "conv_3", "conv_4", "fc_1", "fc_2", "output")  # those with weights
FILTERS = (20, 40, 60, 80)
FEATURES = 160


@dataclass(frozen=True)
class Form:
    """The side of conv_1's kernel, and how many of the three poolings there are, for images of at least `least` pixels
    on the shorter side."""

    least: int
    kernel: int
    pools: int


FORMS = (Form(31, 4, 3), Form(23, 4, 2), Form(15, 4, 1), Form(9, 4, 0), Form(8, 3, 0))


def form(height: int, width: int) -> Form:
    """How the network is made for images of this size. Raises InputError below 8 x 8."""
    for known in FORMS:
        if min(height, width) >= known.least:
            return known
    least = FORMS[-1].least
    raise InputError(
        f"images of {height} x {width} (height x width) are too small for DeepID, whose convolutions need at least"
        f" {least} x {least}: choose another model or larger images."
    )


def grid(height: int, width: int) -> tuple[int, int]:
    """Height and width of conv_3's output after pool_3, of which fc_1 takes the values."""
    made = form(height, width)
    sides = [height, width]
    for stage, kernel in enumerate((made.kernel, 3, 3)):
        sides = [(side - kernel + 1) // (2 if stage < made.pools else 1) for side in sides]
    return sides[0], sides[1]


class DeepID(nn.Module):
    """Images [B, channels, height, width] in [0, 1] to logits [B, num_classes].

    The output of `pool_1`, `pool_2`, `pool_3` and `relu_4` is the rectified (and pooled) activation of `conv_1` to
    `conv_4`. (Pooling goes before ReLU: the two commute, and ReLU then works on a quarter of the values.)

    scale: what images are multiplied by before conv_1: 255 for a network that was trained on pixels 0 to 255. It is
    no parameter, and no part of the state.
    """

    def __init__(self, channels: int, height: int, width: int, num_classes: int, scale: float = 1.0) -> None:
        super().__init__()
        made = form(height, width)
        rows, columns = grid(height, width)
        self.channels, self.height, self.width, self.num_classes = channels, height, width, num_classes
        self.scale = scale
        pools = [nn.Sequential(nn.MaxPool2d(2), nn.ReLU()) if stage < made.pools else nn.ReLU() for stage in range(3)]
        self.conv_1 = nn.Conv2d(channels, FILTERS[0], made.kernel)
        self.pool_1 = pools[0]
        self.conv_2 = nn.Conv2d(FILTERS[0], FILTERS[1], 3)
        self.pool_2 = pools[1]
        self.conv_3 = nn.Conv2d(FILTERS[1], FILTERS[2], 3)
        self.pool_3 = pools[2]
        self.fc_1 = nn.Linear(FILTERS[2] * rows * columns, FEATURES)
        self.conv_4 = nn.Conv2d(FILTERS[2], FILTERS[3], 2)
        self.relu_4 = nn.ReLU()
        self.fc_2 = nn.Linear(FILTERS[3] * (rows - 1) * (columns - 1), FEATURES)
        self.output = nn.Linear(FEATURES, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = images if self.scale == 1 else images * self.scale
        x = self.pool_1(self.conv_1(x))
        x = self.pool_2(self.conv_2(x))
        x = self.pool_3(self.conv_3(x))
        features = self.fc_1(x.flatten(1)) + self.fc_2(self.relu_4(self.conv_4(x)).flatten(1))
        return self.output(torch.relu(features))


def build(channels: int, height: int, width: int, num_classes: int) -> DeepID:
    """Images [B, channels, height, width], at least 8 x 8, to logits [B, num_classes].

    From 31 pixels on (of the shorter side) it is the published network. Smaller images leave too little after three
    poolings: below 31 pixels there is no pool_3 (28 x 28), below 23 no pool_2 either, below 15 none, and 8 x 8 takes a
    conv_1 of 3 x 3 instead of 4 x 4. Filters, features and the two branches are the same throughout.
    """
    return DeepID(channels, height, width, num_classes)
