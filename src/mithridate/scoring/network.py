"""A network of one architecture that takes over the tensors of one trained member after another."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from mithridate.errors import InputError
from mithridate.models.registry import builder, initialise
from mithridate.streams import Stream
from mithridate.training.stack import SKIPPED, keep_channels_last


def empty_network(model: str, shape: tuple[int, int, int], num_classes: int, device: str) -> nn.Module:
    """The network in evaluation mode on its device, to be filled; shape is (channels, height, width)."""
    network = initialise(builder(model), shape, num_classes, Stream("template"))
    return keep_channels_last(network).to(device).eval()


def fill(network: nn.Module, tensors: Mapping[str, np.ndarray]) -> None:
    """Take over a member's parameters and buffers. Raises InputError where they are not those of this network."""
    state = {name: torch.from_numpy(np.ascontiguousarray(tensor)) for name, tensor in tensors.items()}
    try:
        wrong = network.load_state_dict(state, strict=False)
    except RuntimeError as error:  # a shape differs
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"the trained members do not fit the model ({reason}): train them again.") from error
    missing = [name for name in wrong.missing_keys if not name.endswith(SKIPPED)]
    if missing or wrong.unexpected_keys:
        raise InputError(
            f"the trained members do not fit the model ({', '.join([*missing, *wrong.unexpected_keys])}):"
            " train the family again."
        )
