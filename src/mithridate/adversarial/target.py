"""The undefended target as its analyses see it: a frozen chain of layers, the hidden ones by name."""

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor, nn

from mithridate.errors import InputError
from mithridate.training.stack import keep_channels_last

CONV, DENSE = "conv", "dense"  # what the names of layers begin with


class Target:
    """A frozen copy of an nn.Sequential (which may hold others) from images [B,C,H,W] in [0, 1] to logits.

    hidden: modules by name, conv_1, conv_2, … and dense_1, …, in the order of the data: every Conv2d and Linear but the
    last; outputs: number of logits. Raises InputError for a network that is no such chain of single layers.
    """

    def __init__(self, network: nn.Module, device: str | torch.device = "cpu") -> None:
        # Copies: they get no gradients while the given network keeps its own, and a layer used twice becomes two.
        self.layers = [deepcopy(module) for module in _leaves(network)]
        self.network = keep_channels_last(nn.Sequential(*self.layers)).to(device).eval().requires_grad_(False)
        weighted: list[nn.Conv2d | nn.Linear] = [
            module for module in self.layers if isinstance(module, nn.Conv2d | nn.Linear)
        ]
        if len(weighted) < 2:
            raise InputError("the target has no hidden Conv2d or Linear layer: take a network that has.")
        self.outputs = len(weighted[-1].weight)
        counts = {CONV: 0, DENSE: 0}
        self.hidden: dict[str, nn.Conv2d | nn.Linear] = {}
        for layer in weighted[:-1]:
            kind = CONV if isinstance(layer, nn.Conv2d) else DENSE
            counts[kind] += 1
            self.hidden[f"{kind}_{counts[kind]}"] = layer
        for module in self.layers:
            if "inplace" in vars(module):
                vars(module)["inplace"] = False  # pre-activations are still needed when the ReLU is done

    def check_outputs(self, num_classes: int) -> None:
        """Raises InputError unless there is one logit per class."""
        if self.outputs != num_classes:
            raise InputError(
                f"the target has {self.outputs} outputs for {num_classes} classes: take one with a logit per class."
            )

    @property
    def units(self) -> dict[str, int]:
        """Feature maps or neurons of each hidden layer."""
        return {name: len(module.weight) for name, module in self.hidden.items()}

    def activations(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Outputs of the hidden layers before their ReLU, [B, units, neurons of a unit] by name, and the logits. A
        neuron of a dense layer is a unit of its own, a feature map has rows × columns."""
        names = {id(module): name for name, module in self.hidden.items()}
        found = {}
        for module in self.layers:
            x = module(x)
            if id(module) in names:
                found[names[id(module)]] = x.flatten(2) if x.ndim > 2 else x[:, :, None]
        return found, x


def _leaves(network: nn.Module) -> Iterator[nn.Module]:
    if not isinstance(network, nn.Sequential):
        raise InputError(
            f"the target is a {type(network).__name__}, no nn.Sequential: its hidden layers cannot be told apart; build"
            " it as a chain of layers."
        )
    for module in network:
        if isinstance(module, nn.Sequential):
            yield from _leaves(module)
        elif any(True for _ in module.children()):
            raise InputError(
                f"the target holds a {type(module).__name__}, which has layers inside: build it as a chain of layers."
            )
        else:
            yield module
