"""Architectures by name, and a user's own by "package.module:function"."""

import importlib
import sys
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from mithridate.errors import InputError
from mithridate.options.models import NAMES
from mithridate.streams import Stream


class Builder(Protocol):
    """Makes one untrained network from PyTorch modules; its initialisation draws from PyTorch's CPU generator."""

    def __call__(self, channels: int, height: int, width: int, num_classes: int) -> nn.Module: ...


def builder(name: str) -> Builder:
    """The builder of an architecture.

    A name with a colon, `package.module:function`, is imported from the working directory or the environment.
    Raises InputError for an unknown name.
    """
    if ":" not in name:
        if name not in NAMES:
            raise InputError(
                f"model {name!r} is not known: choose one of {', '.join(NAMES)}, or give package.module:function."
            )
        return importlib.import_module(f"mithridate.models.{name}").build
    module_name, function = name.split(":", 1)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module_name), function)
    except Exception as error:  # a user's own file may fail in any way
        raise InputError(
            f"model {name!r} cannot be imported ({error}):"
            " check the spelling, and that the module lies in the working directory."
        ) from error


def class_logits(logits: Tensor) -> Tensor:
    """Logits [..., classes] of a network's output. One output z stands for two classes' logits (0, z), whose
    cross-entropy is z's binary cross-entropy."""
    return logits if logits.shape[-1] > 1 else torch.cat([torch.zeros_like(logits), logits], -1)


def initialise(build: Builder, shape: tuple[int, int, int], num_classes: int, stream: Stream) -> nn.Module:
    """A network with PyTorch's default initialisation, drawn from `stream` alone.

    shape is (channels, height, width). The global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream.seed())  # not the cards', which fork_rng leaves alone here
        try:
            network = build(*shape, num_classes)
        except InputError:
            raise
        except Exception as error:  # a user's own code
            raise InputError(f"the model's function raised {type(error).__name__}: {error}; mend it.") from error
    if not isinstance(network, nn.Module) or not any(p.requires_grad for p in network.parameters()):
        raise InputError(
            f"the model's function must return an nn.Module with parameters, not {type(network).__name__}."
        )
    return network
