"""ResNet-20 for CIFAR-10 (He et al., CVPR 2016, section 4.2): 273,066 parameters for ten classes, in the form that
Mehra et al. (CVPR 2021) use: convolutions with biases, and shortcuts of 1x1 convolutions where the shape changes."""

import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS, CHANNELS = 3, (16, 32, 64)


class Block(nn.Module):
    """Two 3x3 convolutions, each followed by BatchNorm; ReLU after the first and after adding the shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv_1, self.norm_1 = nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs)
        self.conv_2, self.norm_2 = nn.Conv2d(outputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm_2(self.conv_2(F.relu(self.norm_1(self.conv_1(x)))))
        return F.relu(y + self.shortcut(x))


def build(channels: int, height: int, width: int, num_classes: int) -> nn.Sequential:
    """Images [B, channels, height, width] to logits [B, num_classes]."""
    inputs = CHANNELS[0]
    layers: list[nn.Module] = [nn.Conv2d(channels, inputs, 3, 1, 1), nn.BatchNorm2d(inputs), nn.ReLU()]
    for outputs in CHANNELS:
        for block in range(BLOCKS):
            layers.append(Block(inputs, outputs, 2 if block == 0 and inputs != outputs else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes))
