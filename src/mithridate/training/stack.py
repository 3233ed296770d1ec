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
        own = dict(member.named_buffers())
        for name, buffer in self.counters():
            buffer.copy_(own[name])

    def counters(self) -> Iterator[tuple[str, Tensor]]:
        """Buffers that are no part of a member's state but may change while it trains."""
        return iter(())

    def state(self, slot: int) -> dict[str, Tensor]:
        """A copy of a slot's parameters and buffers, on the CPU."""
        return {name: tensor[slot].detach().cpu().contiguous().clone() for name, tensor in self.member_tensors()}


class Single(Stack):
    """One network of any kind; the mask of a padded batch is applied by leaving the padding out."""

    width = 1

    def __init__(self, member: nn.Module, channels_last: bool) -> None:
        super().__init__()
        self.member = keep_channels_last(member) if channels_last else member

    def member_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self.member.state_dict(keep_vars=True).items():
            if not name.endswith(SKIPPED):
                yield name, tensor.unsqueeze(0)

    def counters(self) -> Iterator[tuple[str, Tensor]]:
        known = {name for name, _ in self.member_tensors()}
        return ((name, buffer) for name, buffer in self.member.named_buffers() if name not in known)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.member(images[0])[None]


class Grouped(Stack):
    """T copies of an `nn.Sequential` as one network of grouped convolutions and batched matrix products."""

    def __init__(self, member: nn.Module, width: int, channels_last: bool) -> None:
        super().__init__()
        if not isinstance(member, nn.Sequential):
            raise InputError(
                "training.strategy: grouped needs an nn.Sequential of standard layers; choose loop for this model."
            )
        self.width, self.channels_last = width, channels_last
        self.layers = nn.ModuleList(_grouped(layer, width) for layer in member)

    def member_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for index, layer in enumerate(self.layers):
            for name, tensor in layer.state_dict(keep_vars=True).items():
                yield f"{index}.{name}", tensor

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask: bool [T,B], False where a batch is padded; None where no batch ever is."""
        x = images.transpose(0, 1).flatten(1, 2)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            x = layer(x, mask) if isinstance(layer, GroupedBatchNorm) else layer(x)
        x = x.unflatten(1, (self.width, -1)) if x.ndim == 4 else x  # images, not logits
        return x.transpose(0, 1)


def keep_channels_last(network: nn.Module) -> nn.Module:
    """Make every convolution's output channels-last: with one input channel PyTorch cannot tell the layouts apart and
    would go on in the other, in which pooling is many times slower on a CPU."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda _, __, out: out.contiguous(memory_format=torch.channels_last))
    return network


def _grouped(layer: nn.Module, width: int) -> nn.Module:
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros":
        return GroupedConv(layer, width)
    if isinstance(layer, nn.ConvTranspose2d) and layer.groups == 1 and not any(layer.output_padding):
        return GroupedConvTranspose(layer, width)
    if isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats and layer.affine and layer.momentum is not None:
        return GroupedBatchNorm(layer, width)
    if isinstance(layer, nn.Linear):
        return GroupedLinear(layer, width)
    if isinstance(layer, nn.Flatten):
        return GroupedFlatten(width)
    if isinstance(layer, nn.ReLU | nn.Sigmoid | nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d):
        return layer
    raise InputError(f"training.strategy: grouped does not know the layer {layer}; choose loop for this model.")


def _stacked(tensor: Tensor, width: int) -> Tensor:
    return tensor.detach().expand(width, *tensor.shape).clone()


class GroupedConv(nn.Module):
    """T convolutions on [B, T*in, H, W]."""

    def __init__(self, layer: nn.Conv2d | nn.ConvTranspose2d, width: int) -> None:
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


class GroupedConvTranspose(GroupedConv):
    """T transposed convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.flatten()
        how = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.width}
        return F.conv_transpose2d(x, self.weight.flatten(0, 1), bias, **how)  # type: ignore[arg-type]


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
        if mask is not None and self.training:
            return self._masked(x, mask)
        how = (self.running_mean.view(-1), self.running_var.view(-1), self.weight.flatten(), self.bias.flatten())
        return F.batch_norm(x, *how, self.training, self.momentum, self.eps)

    def _masked(self, x: Tensor, mask: Tensor) -> Tensor:
        channels = self.weight.shape[1]
        keep = mask.t().to(x.dtype).repeat_interleave(channels, 1)[:, :, None, None]
        count = (mask.sum(1) * (x.shape[2] * x.shape[3])).repeat_interleave(channels).clamp(min=1).float()
        y, mean, var = MaskedNormalise.apply(
            x.float(), keep, count, self.weight.flatten(), self.bias.flatten(), self.eps
        )
        with torch.no_grad():  # a member without an image in this batch has finished: its statistics rest
            active = mask.any(1)[:, None]
            unbiased = var * count / (count - 1).clamp(min=1)
            for running, new in ((self.running_mean, mean), (self.running_var, unbiased)):
                updated = running + self.momentum * (new.view_as(running) - running)
                running.copy_(torch.where(active, updated, running))
        return y.to(x.dtype)


class MaskedNormalise(torch.autograd.Function):
    """BatchNorm's normalisation over the kept images: (y, batch mean, biased batch variance) with the usual gradient.

    x [B,C,H,W], keep [B,C,1,1] of 0 and 1, count [C] kept values per channel (at least 1). Padding comes out as the
    bias, and its gradient is taken to be zero, as the masked loss makes it.
    """

    @staticmethod
    def forward(ctx, x, keep, count, weight, bias, eps):  # type: ignore[no-untyped-def]
        mean = (x * keep).sum((0, 2, 3)) / count
        centred = (x - mean[:, None, None]).mul_(keep)
        var = (centred * centred).sum((0, 2, 3)) / count
        inverse = torch.rsqrt(var + eps)
        ctx.save_for_backward(centred, keep, count, weight, inverse)
        ctx.mark_non_differentiable(mean, var)
        return torch.addcmul(bias[:, None, None], centred, (weight * inverse)[:, None, None]), mean, var

    @staticmethod
    def backward(ctx, dy, *_):  # type: ignore[no-untyped-def]
        centred, keep, count, weight, inverse = ctx.saved_tensors
        d_bias = dy.sum((0, 2, 3))
        d_weight = (dy * centred).sum((0, 2, 3)) * inverse
        along = (d_weight * inverse / count)[:, None, None]
        dx = torch.addcmul(dy - (d_bias / count)[:, None, None], centred, along, value=-1)
        return dx.mul_((weight * inverse)[:, None, None] * keep), None, None, d_weight, d_bias, None


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
