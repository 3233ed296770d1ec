"""RAB's network for CIFAR-10 (Weber et al., S&P 2023): a pre-activation ResNet of 3 stages with 5 blocks each,
467,553 parameters for two classes."""

import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS, CHANNELS = 5, (16, 32, 64)


class Block(nn.Module):
    """Two 3x3 convolutions, each behind BatchNorm and ReLU; where the shape changes the shortcut is projected."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm_1(x))
        y = self.conv_2(F.relu(self.norm_2(self.conv_1(active))))
        return y + (x if isinstance(self.shortcut, nn.Identity) else self.shortcut(active))


def build(channels: int, height: int, width: int, num_classes: int) -> nn.Sequential:
    """Images [B, channels, height, width] to logits [B, num_classes], or [B, 1] for two classes."""
    layers: list[nn.Module] = [nn.Conv2d(channels, CHANNELS[0], 3, 1, 1)]
    inputs = CHANNELS[0]
    for outputs in CHANNELS:
        layers += [Block(inputs, outputs, 1 if inputs == outputs else 2)]
        layers += [Block(outputs, outputs, 1) for _ in range(BLOCKS - 1)]
        inputs = outputs
    head = [nn.BatchNorm2d(inputs), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *head, nn.Linear(inputs, 1 if num_classes == 2 else num_classes))
