"""Networks that run side by side: the same interface for one (`Single`) and for a tile of many (`Grouped`).

A stack of width T holds T members' parameters as leading-dimension-T tensors and maps images [T,B,C,H,W] to logits
[T,B,classes]. Member t's logits and gradients depend on member t's parameters and images alone; in `Grouped` they
depend to the last bit also on T and on the slot t, which is why both are constants of a run.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mithridate.errors import InputError

SKIPPED = "num_batches_tracked"  # a counter that evaluation never reads


class Stack(nn.Module):
    """Base: parameters and buffers named as in the member network, with a leading member dimension."""

    width: int

    def member_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """(name in the member's state, tensor [T, ...]) of every parameter and buffer."""
        raise NotImplementedError

    @torch.no_grad()
    def load(self, slot: int, member: nn.Module) -> None:
        """Put a member's parameters and buffers into a slot."""
        state = member.state_dict()
        for name, tensor in self.member_tensors():
            tensor[slot].copy_(state[name])

    def state(self, slot: int) -> dict[str, Tensor]:
        """A copy of a slot's parameters and buffers, on the CPU."""
        return {name: tensor[slot].detach().cpu().contiguous().clone() for name, tensor in self.member_tensors()}


class Single(Stack):
    """One network of any kind; the mask of a padded batch is applied by leaving the padding out."""

    width = 1

    def __init__(self, member: nn.Module) -> None:
        super().__init__()
        self.member = member

    def member_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self.member.state_dict(keep_vars=True).items():
            if not name.endswith(SKIPPED):
                yield name, tensor.unsqueeze(0)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.member(images[0])[None]


class Grouped(Stack):
    """T copies of an `nn.Sequential` as one network of grouped convolutions and batched matrix products."""

    def __init__(self, member: nn.Module, width: int) -> None:
        super().__init__()
        if not isinstance(member, nn.Sequential):
            raise InputError(
                "training.strategy: grouped needs an nn.Sequential of standard layers; choose loop for this model."
            )
        self.width = width
        self.layers = nn.ModuleList(_grouped(layer, width) for layer in member)

    def member_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for index, layer in enumerate(self.layers):
            for name, tensor in layer.state_dict(keep_vars=True).items():
                yield f"{index}.{name}", tensor

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask: bool [T,B], False where a batch is padded; None where no batch ever is."""
        x = images.transpose(0, 1).flatten(1, 2)
        if images.stride(2) == 1:  # channels last, kept through the reshaping
            x = x.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            x = layer(x, mask) if isinstance(layer, GroupedBatchNorm) else layer(x)
        return x.transpose(0, 1)


def _grouped(layer: nn.Module, width: int) -> nn.Module:
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros":
        return GroupedConv(layer, width)
    if isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats and layer.affine and layer.momentum is not None:
        return GroupedBatchNorm(layer, width)
    if isinstance(layer, nn.Linear):
        return GroupedLinear(layer, width)
    if isinstance(layer, nn.Flatten):
        return GroupedFlatten(width)
    if isinstance(layer, nn.ReLU | nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d):
        return layer
    raise InputError(f"training.strategy: grouped does not know the layer {layer}; choose loop for this model.")


def _stacked(tensor: Tensor, width: int) -> Tensor:
    return tensor.detach().expand(width, *tensor.shape).clone()


class GroupedConv(nn.Module):
    """T convolutions on [B, T*in, H, W]."""

    def __init__(self, layer: nn.Conv2d, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(_stacked(layer.weight, width))
        self.bias = None if layer.bias is None else nn.Parameter(_stacked(layer.bias, width))
        self.stride, self.padding, self.dilation, self.width = (
            layer.stride,
            layer.padding,
            layer.dilation,
            width,
        )

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.flatten()
        return F.conv2d(x, self.weight.flatten(0, 1), bias, self.stride, self.padding, self.dilation, self.width)


class GroupedBatchNorm(nn.Module):
    """BatchNorm of T members; statistics are per channel, so members never mix. Padding is left out by the mask."""

    def __init__(self, layer: nn.BatchNorm2d, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(_stacked(layer.weight, width))
        self.bias = nn.Parameter(_stacked(layer.bias, width))
        self.running_mean: Tensor
        self.running_var: Tensor
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, _stacked(getattr(layer, name), width))
        self.momentum, self.eps, self.width = layer.momentum or 0.0, layer.eps, width

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            return self._masked(x, mask)
        mean, var = self.running_mean.view(-1), self.running_var.view(-1)
        return F.batch_norm(x, mean, var, self.weight.flatten(), self.bias.flatten(), True, self.momentum, self.eps)

    def _masked(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        x5 = x.float().view(batch, self.width, -1, height, width)
        keep = mask.t()[:, :, None, None, None]
        count = (mask.sum(1) * (height * width)).clamp(min=1).view(1, -1, 1, 1, 1)
        zero = x5.new_zeros(())
        mean = torch.where(keep, x5, zero).sum((0, 3, 4), keepdim=True) / count
        centred = x5 - mean
        var = torch.where(keep, centred * centred, zero).sum((0, 3, 4), keepdim=True) / count
        with torch.no_grad():  # a member without an image in this batch has finished: its statistics rest
            active = mask.any(1)[:, None]
            unbiased = (var * count / (count - 1).clamp(min=1)).view(self.width, -1)
            for running, new in (
                (self.running_mean, mean.view(self.width, -1)),
                (self.running_var, unbiased),
            ):
                running.copy_(torch.where(active, running + self.momentum * (new - running), running))
        scale = self.weight.view(1, self.width, -1, 1, 1) * torch.rsqrt(var + self.eps)
        return (centred * scale + self.bias.view(1, self.width, -1, 1, 1)).flatten(1, 2).to(x.dtype)


class GroupedFlatten(nn.Module):
    """[B, T*C, ...] to [B, T, features]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], self.width, -1)


class GroupedLinear(nn.Module):
    """T dense layers on [B, T, in] as one batched matrix product."""

    def __init__(self, layer: nn.Linear, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(_stacked(layer.weight, width))
        self.bias = None if layer.bias is None else nn.Parameter(_stacked(layer.bias, width))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.bmm(x.transpose(0, 1), self.weight.transpose(1, 2))
        return (y if self.bias is None else y + self.bias[:, None]).transpose(0, 1)
