"""Keras' Sequential networks as PyTorch's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mithridate.data.checks import shape_text
from mithridate.errors import InputError, short
from mithridate.repair.keras_layout import (
    PLAIN,
    RELU,
    SAVE,
    Grid,
    Layer,
    check_layer,
    check_options,
    fill,
    input_shape,
    open_keras,
    whole,
)

KINDS: dict[str, dict[str, Any]] = {
    "InputLayer": {},
    "Dropout": {},
    "Conv2D": PLAIN,
    "MaxPooling2D": {"data_format": "channels_last", "padding": "valid"},
    "Flatten": {"data_format": "channels_last"},
    "Dense": {},
    "Activation": {},
    "ReLU": RELU,
    "Softmax": {},
}


def load_sequential(path: str | Path) -> nn.Sequential:
    """The network of a full-model file of a Keras Sequential of Conv2D, MaxPooling2D, Flatten and Dense layers with
    ReLU, in evaluation mode. Dropout is left out, and so is a softmax at the end: images [B,C,H,W] become logits.

    Where Keras takes flat inputs, or rows and columns without channels, it takes images of one channel too. Raises
    InputError as `keras_hdf5.load_deepid` does, and for layers of other kinds or with options that are not read.
    """
    with open_keras(path) as content:
        if not content.config:
            raise InputError(f"{path} lacks the architecture (model_config): {SAVE}, the whole model (model.save).")
        if content.architecture != "Sequential":
            raise InputError(f"{path} is a {short(content.architecture)} model, not a Sequential: convert it in Keras.")
        chain = _Chain(content.path, content.layers)
        missing = [name for name in chain.weighted if name not in content.names]
        if missing:
            raise InputError(f"{path} lacks the weights of the layers {short(', '.join(missing))}: {SAVE}.")
        fill(content, chain.weighted, chain.grids, "its architecture")
    return nn.Sequential(*chain.modules).eval()


class _Chain:
    """A Sequential as modules without values yet. By layer: the modules with weights, and the grid of what a dense
    layer takes flattened."""

    def __init__(self, path: Path, layers: Sequence[Layer]) -> None:
        self.path = path
        self.modules: list[nn.Module] = []
        self.weighted: dict[str, nn.Module] = {}
        self.grids: dict[str, Grid] = {}
        self.now = input_shape(layers)
        """shape of an image at this point, in Keras' order"""
        self.flattened: Grid | None = None
        if not 1 <= len(self.now) <= 3:
            raise InputError(f"{path}: model_config does not say the shape of its inputs: {SAVE}, after model.build.")
        if len(self.now) == 1:
            self.modules.append(nn.Flatten())
        softmax: Layer | None = None
        for layer in layers:
            check_layer(path, layer, KINDS)
            if layer.kind in ("InputLayer", "Dropout"):
                continue
            if softmax is not None:
                raise InputError(f"{path}: {short(softmax.name)} has a softmax before the end: give another network.")
            with torch.device("meta"):
                self._append(layer)
            softmax = layer if self._activate(layer) else None
        if not self.modules or not isinstance(self.modules[-1], nn.Linear):
            raise InputError(f"{path}: the network does not end in a dense layer of logits: give a classifier.")

    def _append(self, layer: Layer) -> None:
        """What the layer does before its activation."""
        match layer.kind:
            case "Conv2D":
                self._conv(layer)
            case "MaxPooling2D":
                self._pool(layer)
            case "Flatten":
                self._flatten(layer)
            case "Dense":
                self._dense(layer)

    def _conv(self, layer: Layer) -> None:
        self._need(layer, 3)
        kernel, stride = self._pair(layer, "kernel_size"), self._pair(layer, "strides", (1, 1))
        padding = layer.options.get("padding", "valid")
        if padding != "valid":
            check_options(self.path, layer, {"padding": "same", "strides": (1, 1)})
        height, width, channels = self.now
        filters = self._units(layer, "filters")
        self._add(layer, nn.Conv2d(channels, filters, kernel, stride, padding, bias=self._bias(layer)))
        self.now = (*self._shrunk(layer, kernel, stride), filters) if padding == "valid" else (height, width, filters)

    def _pool(self, layer: Layer) -> None:
        self._need(layer, 3)
        kernel = self._pair(layer, "pool_size", (2, 2))
        stride = self._pair(layer, "strides", kernel)
        self.modules.append(nn.MaxPool2d(kernel, stride))
        self.now = (*self._shrunk(layer, kernel, stride), self.now[2])

    def _flatten(self, layer: Layer) -> None:
        if len(self.now) > 1:
            self.modules.append(nn.Flatten())
            height, width, channels = (*self.now, 1)[:3]
            self.flattened, self.now = (channels, height, width), (height * width * channels,)

    def _dense(self, layer: Layer) -> None:
        self._need(layer, 1)
        units = self._units(layer, "units")
        self._add(layer, nn.Linear(self.now[0], units, self._bias(layer)))
        if self.flattened is not None:
            self.grids[layer.name] = self.flattened
        self.flattened, self.now = None, (units,)

    def _add(self, layer: Layer, module: nn.Module) -> None:
        if layer.name in self.weighted:
            raise InputError(f"{self.path} has two layers {short(layer.name)}: {SAVE} under different names.")
        self.weighted[layer.name] = module
        self.modules.append(module)

    def _activate(self, layer: Layer) -> bool:
        """Append the layer's activation, but for a softmax: whether it has one."""
        activation = {"ReLU": "relu", "Softmax": "softmax"}.get(layer.kind) or layer.options.get("activation", "linear")
        if activation not in ("relu", "linear", "softmax"):
            raise InputError(
                f"{self.path}: the layer {short(layer.name)} has the activation {short(activation)}: only relu, linear"
                " and a softmax at the end are read here."
            )
        if activation == "relu":
            self.modules.append(nn.ReLU())
        return activation == "softmax"

    def _need(self, layer: Layer, axes: int) -> None:
        if len(self.now) != axes:
            raise InputError(
                f"{self.path}: the {layer.kind} layer {short(layer.name)} takes {shape_text(self.now)} values: only"
                f" networks of {'images' if axes == 3 else 'flat features (Flatten)'} are read at that point."
            )

    def _pair(self, layer: Layer, key: str, default: tuple[int, int] | None = None) -> tuple[int, int]:
        given = layer.options.get(key, default)
        pair: Any = (given, given) if isinstance(given, int) else given
        if not whole(pair) or len(pair) != 2:
            raise InputError(f"{self.path}: the layer {short(layer.name)} has {key}={short(given)}: {SAVE}.")
        return pair[0], pair[1]

    def _units(self, layer: Layer, key: str) -> int:
        number: Any = layer.options.get(key)
        if not whole([number]):
            raise InputError(f"{self.path}: the layer {short(layer.name)} has {key}={short(number)}: {SAVE}.")
        return number

    def _bias(self, layer: Layer) -> bool:
        return bool(layer.options.get("use_bias", True))

    def _shrunk(self, layer: Layer, kernel: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
        rows, columns = (
            (side - size) // step + 1 for side, size, step in zip(self.now[:2], kernel, stride, strict=True)
        )
        if min(rows, columns) < 1:
            raise InputError(
                f"{self.path}: the layer {short(layer.name)} is larger than its {shape_text(self.now)} inputs: {SAVE}."
            )
        return rows, columns
