"""Keras' initialisation, for architectures that were published in it."""

from torch import nn


def glorot_uniform(network: nn.Module) -> None:
    """Kernels uniform in ±sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio, AISTATS 2010), biases zero; in place."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
