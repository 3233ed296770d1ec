"""DeepID out of Keras 2 HDF5 files and back into them, without Keras."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import device, nn

from mithridate.artefacts import new_hdf5
from mithridate.data.checks import MAX_CLASSES, shape_text
from mithridate.errors import InputError
from mithridate.hdf5_guard import read_texts
from mithridate.models import deepid
from mithridate.models.deepid import LAYERS, DeepID
from mithridate.repair.keras_layout import (
    PLAIN,
    RELU,
    SAVE,
    Content,
    Grid,
    check_layer,
    check_weights,
    datasets,
    fill,
    input_shape,
    open_keras,
    to_keras,
    whole,
)

ATTRIBUTE_BYTES = 60_000  # an HDF5 attribute holds 64 kB
VERSIONS = {"backend": "tensorflow", "keras_version": "2.3.1"}
# Keras' order of DeepID's layers, by their depth: files without names are filled in this order.
ORDER = (
    "input", "conv_1", "pool_1", "conv_2", "pool_2", "conv_3", "pool_3", "conv_4", "flatten_1", "flatten_2",
    "fc_1", "fc_2", "add_1", "activation_1", "output",
)  # fmt: skip
NAMES = {name: [f"{name}/kernel:0", f"{name}/bias:0"] if name in LAYERS else [] for name in ORDER}
# The layers that a DeepID has, and what they must say.
KINDS: dict[str, dict[str, Any]] = {
    "InputLayer": {},
    "Conv2D": {**PLAIN, "strides": (1, 1), "padding": "valid", "activation": "relu"},
    "MaxPooling2D": {"pool_size": (2, 2), "strides": (2, 2), "padding": "valid"},
    "Flatten": {},
    "Dense": {"activation": "linear"},
    "Dropout": {},
    "Add": {},
    "Activation": {"activation": "relu"},
    "ReLU": RELU,
}


def load_deepid(path: str | Path, scale: float | None = None, size: tuple[int, int] | None = None) -> DeepID:
    """The DeepID network of a full-model or bare weight file: NCHW in [0, 1] to logits, in evaluation mode.

    scale: 255 for a network that was trained on pixels 0 to 255, else 1; size: height and width of its images. Where
    they are None, they are what `save_deepid` noted in the file, or 1, and what model_config says, or the image size
    that the shapes of the dense layers give, upright. The channels and classes are those of the weights.

    Raises InputError for a missing or damaged file or one of something else, missing layers, other shapes, another
    architecture, and weights that are not finite.
    """
    with open_keras(path) as content:
        missing = [name for name in LAYERS if name not in content.names]
        if missing:
            other = "" if content.names else " (there are no layer_names: it is no Keras 2 file)"
            raise InputError(f"{path} lacks DeepID's {', '.join(missing)}{other}: {SAVE} under these layer names.")
        kernels = {name: datasets(content, name)[0].shape for name in LAYERS}
        noted = _notes(content)
        height, width = size or noted[1] or _image_size(content) or _size_of(content, kernels)
        network = _empty(content, kernels, height, width)
        _check_architecture(content, network)
        what = f"DeepID for images of {height} x {width} (height x width)"
        fill(content, _modules(network), _grids(network), what)
    network.scale = float(noted[0] if scale is None else scale)
    return network.eval()


def save_deepid(
    model: nn.Module, path: str | Path, like: str | Path | None = None, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write a DeepID network for Keras 2: a full model, with the architecture of the file `like`, where that is one,
    else bare weights, which Keras loads into a network of the same layers. The same network gives the same bytes.

    The names of layers and weights are those of `like`, where it is given. The scale and image size are noted in
    attributes, which Keras ignores. Raises InputError for another model, weights that are not finite, and a `like` of
    another network.
    """
    if not isinstance(model, DeepID):
        raise InputError(
            f"{path}: only DeepID can be written for Keras, not {type(model).__name__}: give such a model."
        )
    grids = _grids(model)
    arrays = {
        name: [to_keras(values.detach().cpu().float().numpy(), grids.get(name)) for values in module.parameters()]
        for name, module in _modules(model).items()
    }
    if not all(np.isfinite(array).all() for pair in arrays.values() for array in pair):
        raise InputError(f"{path}: the network has weights that are NaN or infinite: train or repair it again.")
    names, config, versions = (NAMES, "", VERSIONS) if like is None else _example(like, model)
    notes = {"input_scale": float(model.scale), "image_size": [model.height, model.width]}
    with new_hdf5(path, notes, provenance or {}) as file:
        group = file.create_group("model_weights") if config else file
        if config:
            file.attrs["model_config"] = np.bytes_(config.encode())
        for key, value in versions.items():
            file.attrs[key] = group.attrs[key] = np.bytes_(value.encode())
        group.attrs["layer_names"] = np.array([name.encode() for name in names], "S")
        for layer in sorted(names):
            here = group.require_group(layer)
            here.attrs["weight_names"] = np.array([name.encode() for name in names[layer]], "S")
            for name, array in zip(names[layer], arrays.get(layer, ()), strict=True):
                here.create_dataset(name, data=array, track_times=False)


def _example(like: str | Path, model: DeepID) -> tuple[dict[str, list[str]], str, dict[str, str]]:
    """Names, architecture and versions of a file of the same network."""
    with open_keras(like) as content:
        if {name for name, weights in content.names.items() if weights} != set(LAYERS):
            raise InputError(f"{like} has other layers with weights than DeepID: give the file of the same network.")
        check_weights(content, _modules(model), "the network to be saved")
        _check_architecture(content, model)
        versions = {name: "".join(read_texts(like, content.group, name))[:100] or VERSIONS[name] for name in VERSIONS}
    names = [*content.names, *(name for weights in content.names.values() for name in weights)]
    if max(len(names) * max(len(name.encode()) for name in names), len(content.config.encode())) > ATTRIBUTE_BYTES:
        raise InputError(f"{like} has names or a model_config too long to be written: give a file with the usual ones.")
    return content.names, content.config, versions


def _notes(content: Content) -> tuple[float, tuple[int, int] | None]:
    """The scale and image size that `save_deepid` noted; 1 and None where there are no notes."""
    path, attributes = content.path, content.file.attrs
    scale, size = 1.0, "".join(read_texts(path, content.file, "image_size"))
    if "input_scale" in attributes:
        attribute = attributes.get_id("input_scale")
        scale = float(attributes["input_scale"]) if attribute.shape == () and attribute.dtype.kind == "f" else math.nan
    try:
        sides = json.loads(size) if size else None
    except (ValueError, RecursionError):
        sides = ()
    if not 0 < scale < math.inf or not (sides is None or (whole(sides) and len(sides) == 2)):
        raise InputError(f"{path}: the attributes input_scale and image_size are damaged: copy or save it again.")
    return scale, sides and (sides[0], sides[1])


def _image_size(content: Content) -> tuple[int, int] | None:
    shape = input_shape(content.layers)
    return (shape[0], shape[1]) if len(shape) == 3 else None


def _size_of(content: Content, kernels: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    """The least image size, upright, whose fc_1 takes h x w and whose fc_2 takes (h-1) x (w-1) positions."""
    one, two = (kernels[name][0] / channels for name, channels in (("fc_1", 60), ("fc_2", 80)))
    both = one - two + 1  # h + w
    apart = math.sqrt(max(0, both**2 - 4 * one))
    rows, columns = round((both + apart) / 2), round((both - apart) / 2)
    if columns < 2 or (rows * columns, (rows - 1) * (columns - 1)) != (one, two):
        raise InputError(
            f"{content.path}: no image size gives the widths of fc_1 and fc_2: give the file of a DeepID network."
        )
    return 8 * rows + 15, 8 * columns + 15


def _empty(content: Content, kernels: Mapping[str, tuple[int, ...]], height: int, width: int) -> DeepID:
    """The network with as many channels and classes as these shapes have, without values."""
    first, last = kernels["conv_1"], kernels["output"]
    channels, classes = first[2:3], last[1:2]
    if not channels or not classes or not 2 <= classes[0] <= MAX_CLASSES:
        raise InputError(
            f"{content.path}: conv_1 and output have weights of {shape_text(first)} and {shape_text(last)}, which"
            f" DeepID cannot have: give a network of 2 to {MAX_CLASSES} classes."
        )
    with device("meta"):
        return DeepID(channels[0], height, width, classes[0])


def _modules(network: DeepID) -> dict[str, nn.Module]:
    return {name: network.get_submodule(name) for name in LAYERS}


def _grids(network: DeepID) -> dict[str, Grid]:
    rows, columns = deepid.grid(network.height, network.width)
    return {"fc_1": (deepid.FILTERS[2], rows, columns), "fc_2": (deepid.FILTERS[3], rows - 1, columns - 1)}


def _check_architecture(content: Content, network: DeepID) -> None:
    """That an architecture, if there is one, computes what DeepID does, as far as single layers show it."""
    for layer in content.layers:
        last = layer.name == "output" and layer.options.get("activation") == "softmax"
        check_layer(content.path, layer, {**KINDS, "Dense": {}} if last else KINDS)
    pools = sum(layer.kind == "MaxPooling2D" for layer in content.layers)
    expected = deepid.form(network.height, network.width).pools
    if content.layers and pools != expected:
        raise InputError(
            f"{content.path} has {pools} pooling layers where DeepID for images of {network.height} x {network.width}"
            f" has {expected}: give the file of such a network."
        )
