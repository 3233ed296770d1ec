"""Networks of one architecture in one safetensors file, with what is needed to build them again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mithridate.artefacts import read_safetensors, write_safetensors
from mithridate.errors import InputError, short
from mithridate.models.deepid import DeepID
from mithridate.models.registry import builder
from mithridate.scoring.network import empty_network, fill
from mithridate.training.stack import SKIPPED

LARGEST = 1 << 16  # side, channels or classes


@dataclass(frozen=True)
class Kind:
    """An architecture (see models.registry) for images of `shape` (channels, height, width); input_scale is 255 for a
    DeepID that was trained on pixels 0 to 255: it multiplies images in [0, 1] itself."""

    model: str
    shape: tuple[int, int, int]
    num_classes: int
    input_scale: float = 1.0


def state(network: nn.Module) -> dict[str, np.ndarray]:
    """Parameters and buffers by name."""
    return {key: tensor.cpu().numpy() for key, tensor in network.state_dict().items() if not key.endswith(SKIPPED)}


def build(kind: Kind, tensors: Mapping[str, np.ndarray], device: str = "cpu") -> nn.Module:
    """The network of these tensors in evaluation mode. Raises InputError where they are not those of the kind."""
    network = empty_network(kind.model, kind.shape, kind.num_classes, device)
    if isinstance(network, DeepID):
        network.scale = kind.input_scale
    fill(network, tensors)
    return network


def write_networks(
    path: str | Path,
    networks: Mapping[str, Mapping[str, np.ndarray]],
    kind: Kind,
    provenance: Mapping[str, Any],
    **notes: Any,
) -> None:
    """Write networks by name: a tensor is called name/parameter, or as the parameter where the name is empty."""
    tensors = {f"{name}/{key}" if name else key: array for name, own in networks.items() for key, array in own.items()}
    write_safetensors(path, tensors, {"networks": list(networks), "kind": asdict(kind), **notes}, provenance)


def read_networks(
    path: str | Path, device: str = "cpu", *, own: str | None = None
) -> tuple[dict[str, nn.Module], Kind, dict[str, Any]]:
    """Networks by name, their kind and all metadata. Raises InputError for a missing, damaged or foreign file.

    own: an architecture package.module:function that may be imported; none that a file alone names is, since importing
    runs code.
    """
    tensors, metadata = read_safetensors(path)
    try:
        names, kind = metadata["networks"], _kind(metadata["kind"])
        prefixes = {name: f"{name}/" if name else "" for name in names}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} holds no networks of this workflow: delete it and make it again.") from error
    if ":" in kind.model and kind.model != own:
        raise InputError(
            f"{path} is of the architecture {kind.model!r}, which is not built in: name it yourself (--model,"
            " badnet.model)."
        )
    _check_size(path, kind, sum(tensor.size for tensor in tensors.values()))
    networks = {}
    for name, prefix in prefixes.items():
        tensor = {key.removeprefix(prefix): array for key, array in tensors.items() if key.startswith(prefix)}
        try:
            networks[name] = build(kind, tensor, device)
        except InputError as error:
            raise InputError(f"{path} does not hold the tensors of a {kind.model}: copy or make it again.") from error
    return networks, kind, metadata


def read_network(path: str | Path, device: str = "cpu", *, own: str | None = None) -> tuple[nn.Module, Kind]:
    """The only network of a file, and its kind."""
    networks, kind, _ = read_networks(path, device, own=own)
    if list(networks) != [""]:
        raise InputError(f"{path} holds {len(networks)} named networks, not one: give the file of a single network.")
    return networks[""], kind


def _check_size(path: str | Path, kind: Kind, values: int) -> None:
    """That a built-in architecture has no more weights than the file, before any memory is taken for them."""
    if ":" in kind.model:
        return
    try:
        with torch.device("meta"):
            network = builder(kind.model)(*kind.shape, kind.num_classes)
        fits = sum(parameter.numel() for parameter in network.parameters()) <= values
    except (InputError, RuntimeError, ValueError, OverflowError):  # images too small or too large for it
        fits = False
    if not fits:
        raise InputError(f"{path} does not hold the tensors of a {short(kind.model)}: copy or make it again.")


def _kind(about: Mapping[str, Any]) -> Kind:
    """Raises ValueError, TypeError or KeyError for anything that is no kind."""
    channels, height, width = shape = tuple(about["shape"])
    classes, scale, model = about["num_classes"], about["input_scale"], about["model"]
    numbers = [*shape, classes]
    if not all(type(n) is int and 0 < n <= LARGEST for n in numbers) or not isinstance(model, str):
        raise ValueError(f"{numbers} are not all numbers")
    return Kind(model, (channels, height, width), classes, float(scale))
