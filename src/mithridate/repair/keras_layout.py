"""What Keras 2's HDF5 files hold of a network: its layers, their weights, and the order of the values in these.

A full-model file has the attribute `model_config` (JSON) and the group `model_weights`; a bare weight file has that
group's content at its root. In it lies a group per layer, in the order of the attribute `layer_names`, with the
attribute `weight_names`: kernel and bias. Attributes too long for HDF5 are cut into layer_names0, layer_names1, ….
Keras keeps images as [H,W,C]: kernels are [height, width, in, out] in convolutions and [in, out] in dense layers, and
flattened features run over the channels first. All of that is permuted and no value is changed, so weights come back
as they were, to the bit.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from torch import nn

from mithridate.data.checks import shape_text
from mithridate.errors import InputError, short
from mithridate.hdf5_guard import check_stored, damage, member, open_foreign, read_texts
from mithridate.hdf5_heaps import check_heaps

# More than networks of these kinds have.
MOST_NAMES, LONGEST_NAME, MOST_BYTES, LARGEST = 1000, 1000, 1 << 28, 1 << 24
SAVE = "save the network as .h5 with Keras 2"
# What is taken for granted of a layer, unless the reader says otherwise; with Keras' default for what is not said.
PLAIN = {"dilation_rate": (1, 1), "groups": 1, "data_format": "channels_last"}
RELU = {"max_value": None, "negative_slope": 0, "threshold": 0}

Grid = tuple[int, int, int]
"""channels, height, width of what a dense layer takes flattened"""


class Layer(NamedTuple):
    """A layer of model_config."""

    name: str
    kind: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Content:
    """What a file lists. group: that of the weights; names: of every layer's weights, in order, and empty where it is
    no Keras file; architecture: class name and layers of model_config, "" and none in a bare weight file."""

    path: Path
    file: h5py.File
    group: h5py.Group
    names: dict[str, list[str]]
    config: str
    architecture: str
    layers: Sequence[Layer]


@contextmanager
def open_keras(path: str | Path) -> Iterator[Content]:
    """What a file lists, while it is open. Raises InputError for a missing or damaged file, also for damage that shows
    in the block."""
    path = Path(path)
    with open_foreign(path) as file, damage(path):
        group = member(path, file, "model_weights")
        if not isinstance(group, h5py.Group):
            group = file
        names: dict[str, list[str]] = {}
        check_heaps(path)
        for layer in _strings(path, group, "layer_names"):
            here = member(path, group, layer)
            if not isinstance(here, h5py.Group):
                raise InputError(f"{path} lists the layer {short(layer)} but lacks its group: copy or save it again.")
            names[layer] = _strings(path, here, "weight_names")
        config = "".join(read_texts(path, file, "model_config"))
        architecture, layers = _parse(path, config) if config else ("", [])
        yield Content(path, file, group, names, config, architecture, layers)


def _strings(path: Path, group: h5py.Group, name: str) -> list[str]:
    """The texts of an attribute, which may be cut into pieces; none where there is no such attribute."""
    cut = (f"{name}{number}" for number in count())
    pieces = [name] if name in group.attrs else takewhile(lambda piece: piece in group.attrs, cut)
    texts: list[str] = []
    for piece in pieces:
        texts += read_texts(path, group, piece)
        if len(texts) > MOST_NAMES or any(len(text) > LONGEST_NAME for text in texts):
            raise InputError(f"{path}: {name} lists more than a network has: {SAVE}.")
    return texts


def _parse(path: Path, config: str) -> tuple[str, list[Layer]]:
    try:
        model = json.loads(config)
        inner = model["config"]
        entries = inner["layers"] if isinstance(inner, dict) else inner  # old Keras keeps the list of layers alone
        layers = [
            Layer(str(entry["config"].get("name", "")), str(entry["class_name"]), dict(entry["config"]))
            for entry in entries
        ]
        if layers:
            return str(model["class_name"]), layers
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise InputError(f"{path}: model_config is not the architecture that Keras writes: {SAVE}.")


# Layers.


def input_shape(layers: Sequence[Layer]) -> tuple[int, ...]:
    """Of one input, in Keras' order; () where the architecture does not say it."""
    for layer in layers:
        for key in ("batch_input_shape", "batch_shape"):
            shape = layer.options.get(key)
            if isinstance(shape, list) and whole(shape[1:]):
                return tuple(shape[1:])
    return ()


def whole(values: object) -> bool:
    """Whether these are positive whole numbers that a network may have."""
    return isinstance(values, list | tuple) and all(type(value) is int and 0 < value <= LARGEST for value in values)


def check_layer(path: Path, layer: Layer, kinds: Mapping[str, Mapping[str, Any]]) -> None:
    """That it is of one of these kinds, with the options that belong to it."""
    if layer.kind not in kinds:
        raise InputError(
            f"{path}: the layer {short(layer.name)} is a {short(layer.kind)}: only {', '.join(kinds)} are read here."
        )
    check_options(path, layer, kinds[layer.kind])


def check_options(path: Path, layer: Layer, expected: Mapping[str, Any]) -> None:
    for key, value in expected.items():
        given = layer.options.get(key, value)
        if isinstance(value, tuple):
            given = tuple(given) if isinstance(given, list) else (given, given)
        if given != value:
            raise InputError(
                f"{path}: the layer {short(layer.name)} has {key}={short(layer.options[key])}, where only"
                f" {short(value)} is read: give another network."
            )


# Weights.


def datasets(content: Content, layer: str, number: int = 2) -> list[h5py.Dataset]:
    """The weights of a layer, which are known to be floats in the file: kernel and bias, or the kernel alone."""
    found = [member(content.path, content.group[layer], name) for name in content.names[layer]]
    if len(found) != number or not all(isinstance(dataset, h5py.Dataset) for dataset in found):
        expected = "kernel and bias" if number == 2 else "a kernel"
        raise InputError(f"{content.path} lacks weights of the layer {short(layer)}, which needs {expected}: {SAVE}.")
    for dataset in found:
        check_stored(content.path, dataset, "f")
    return found


def check_weights(content: Content, modules: Mapping[str, nn.Module], what: str) -> dict[str, list[h5py.Dataset]]:
    """The weights of each layer, which are of the shapes of its module; `what` is what the message calls the
    network."""
    found = {layer: datasets(content, layer, len(list(module.parameters()))) for layer, module in modules.items()}
    for layer, module in modules.items():
        for dataset, parameter in zip(found[layer], module.parameters(), strict=True):
            outputs, *inputs = parameter.shape
            expected = (*inputs[1:], *inputs[:1], outputs)
            if dataset.shape != expected:
                raise InputError(
                    f"{content.path}: {short(layer)} has weights of {shape_text(dataset.shape)} but {what} needs"
                    f" {shape_text(expected)}: give the file of such a network."
                )
    if sum(dataset.size for weights in found.values() for dataset in weights) * 4 > MOST_BYTES:
        raise InputError(f"{content.path} has weights of more than {MOST_BYTES} bytes: give a smaller network.")
    return found


def fill(content: Content, modules: Mapping[str, nn.Module], grids: Mapping[str, Grid], what: str) -> None:
    """Give modules that have no values yet those of their layers, after `check_weights`.

    Raises InputError for NaN and infinite ones.
    """
    found = check_weights(content, modules, what)
    for layer, module in modules.items():
        for (key, _), dataset in zip(list(module.named_parameters()), found[layer], strict=True):
            with np.errstate(over="ignore"):
                array = dataset[()].astype(np.float32)
            if not np.isfinite(array).all():
                raise InputError(
                    f"{content.path}: {short(layer)} has weights that are NaN or infinite: give an undamaged network."
                )
            setattr(module, key, nn.Parameter(torch.from_numpy(from_keras(array, grids.get(layer)))))


def from_keras(array: np.ndarray, grid: Grid | None) -> np.ndarray:
    """A kernel or bias in PyTorch's order; grid: of what a dense layer takes flattened, if that was an image."""
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    elif array.ndim == 2:
        if grid is not None:
            channels, height, width = grid
            array = array.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(array.shape)
        array = array.T
    return np.ascontiguousarray(array)


def to_keras(array: np.ndarray, grid: Grid | None) -> np.ndarray:
    """The inverse of `from_keras`."""
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
    elif array.ndim == 2:
        array = array.T
        if grid is not None:
            array = array.reshape(*grid, -1).transpose(1, 2, 0, 3).reshape(array.shape)
    return np.ascontiguousarray(array)
