"""Fine-Pruning's pruning: channels that clean images use least are silenced one after another.

Source: Liu, Dolan-Gavitt & Garg, "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks", RAID
2018. Networks are torch modules from images [B,C,H,W] in [0, 1] to logits; a given network is never changed. Images are
uint8, taken times `scale`, or float32 in [0, 1]. All of it sees clean held-out images alone, except Pruner.evaluate,
which decides nothing.
"""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mithridate.data.checks import check_labels
from mithridate.errors import InputError
from mithridate.models.registry import class_logits
from mithridate.repair.predict import BATCH, batches, check_pairs, finite
from mithridate.training.stack import keep_channels_last

RECTIFIERS = (nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
OTHERS = (nn.Identity, nn.Dropout, nn.Dropout2d)
BASELINE = -1  # the channel of a curve's first row, in which nothing is pruned yet
ROWS = 2048  # copies of images that pass at once through what comes after the pruned layer
ROUNDING = 1e-9  # percentage points

Change = Callable[[Tensor], Tensor]


class Pruner:
    """One convolution (or dense layer) of a network, whose channels are pruned one after another.

    The layer's *activation* is its output after the ReLU, pooling and BatchNorm modules that directly follow it in the
    flow of data (DeepID's pool_3 for conv_3). Operations that are no modules are not seen; a layer that no ReLU or
    pooling module follows is refused with InputError, as is an unknown one. shape: of an image.
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str,
        shape: tuple[int, int, int],
        *,
        scale: float = 1 / 255,
        device: str = "cpu",
    ) -> None:
        self.original, self.layer, self.scale, self.device = network, layer, scale, device
        # The hooks for the memory's layout come first: those below must see the tensors that the next modules get.
        self.network = keep_channels_last(deepcopy(network)).to(device).eval()
        layers = {name: m for name, m in self.network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
        if layer not in layers:
            raise InputError(f"badnet.layer: {layer!r} is none that can be pruned: choose one of {', '.join(layers)}.")
        self.channels = len(layers[layer].weight)
        self._chain: list[nn.Module] = []
        self._follow(layers[layer])
        probe = torch.full((3, *shape), 0.5, device=device)
        self.classes = self._logits(probe).shape[1]
        self._chain = self._passed  # of this first pass
        if not any(isinstance(module, RECTIFIERS) for module in self._chain):
            raise InputError(
                f"badnet.layer: {layer!r} is not followed by a ReLU or pooling module, so that its activation is not"
                " known: choose another layer, or build the network with modules."
            )
        self._together = ROWS if self._is_only_path(probe) else 1

    def activations(self, images: np.ndarray) -> np.ndarray:
        """Mean activation of each channel over images and places: float64 [channels]."""
        total = np.zeros(self.channels)
        for x, count in batches(images, self.scale, self.device):

            def add(activation: Tensor, count: int = count) -> Tensor:
                means = activation[:count].double().flatten(2) if activation.ndim > 2 else activation[:count, :, None]
                total[:] += means.mean(2).sum(0).cpu().numpy()
                return activation

            self._logits(x, add)
        return total / len(images)

    def curve(self, images: np.ndarray, validation: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
        """step, channel, mean_activation, clean_accuracy: channels in increasing order of their mean activation on
        `images`, at ties the smaller number first, and the accuracy on the images `validation` with labels [n] once the
        channel and all before it are pruned. Step 0 is the network as it is, its channel BASELINE.

        Raises InputError for labels that are no classes, and where one of the sets is empty.
        """
        means = self.activations(images)
        order = np.argsort(means, kind="stable")
        return pd.DataFrame(
            {
                "step": np.arange(len(order) + 1),
                "channel": np.append(BASELINE, order),
                "mean_activation": np.append(np.nan, means[order]),
                "clean_accuracy": self._shares(order, validation, labels),
            }
        )

    def evaluate(self, curve: pd.DataFrame, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """For evaluation only: which share of any images gets the labels [n], at every step of a curve, float64
        [steps]. With the attack's target as label of triggered images of other classes, that is the ASR."""
        return self._shares(curve["channel"].to_numpy()[1:], images, labels)

    def pruned(self, channels: np.ndarray) -> nn.Module:
        """A copy of the network in which these channels of the layer have zero kernel and bias, and zero factor and
        shift in a BatchNorm that follows directly. In evaluation mode, on the device the given network is on."""
        network, rows = deepcopy(self.original).eval(), torch.tensor(np.asarray(channels, np.int64))
        names = {id(module): name for name, module in self.network.named_modules()}
        norms = [names[id(module)] for module in self._chain if isinstance(module, NORMS)]
        with torch.no_grad():
            for name in (self.layer, *norms):
                for parameter in network.get_submodule(name).parameters(recurse=False):
                    parameter[rows.to(parameter.device)] = 0
        return network

    def _shares(self, order: np.ndarray, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Share of images that get their label before pruning and after each channel of `order`, float64 [steps + 1].

        A channel is pruned by setting its activation to zero. Where all data flows through the layer, what comes before
        it is computed once for many steps, and the activation repeated, a copy per step.
        """
        check_pairs(images, labels)
        check_labels("labels", labels, self.classes)
        masks = torch.ones(len(order) + 1, self.channels, device=self.device)
        for step, channel in enumerate(order, 1):
            masks[step:, channel] = 0
        together = min(self._together, len(masks))
        size = max(1, ROWS // together) if together > 1 else BATCH
        hits, start = np.zeros(len(masks), np.int64), 0
        for x, count in batches(images, self.scale, self.device, size):
            y = torch.from_numpy(labels[start : start + count]).to(self.device)
            start += count
            right = [(self._masked(x, part).argmax(2)[:, :count] == y).sum(1) for part in masks.split(together)]
            hits += torch.cat(right).cpu().numpy()
        return hits / len(images)

    def _masked(self, x: Tensor, masks: Tensor) -> Tensor:
        """Logits [masks, B, classes] of a batch, the activation times each mask [channels]."""

        def repeat(activation: Tensor) -> Tensor:
            out = activation[None] * masks.view(len(masks), 1, -1, *[1] * (activation.ndim - 2))
            layout = torch.channels_last if activation.ndim == 4 else torch.contiguous_format
            return out.flatten(0, 1).contiguous(memory_format=layout)

        return finite(self._logits(x, repeat)).unflatten(0, (len(masks), -1))

    def _is_only_path(self, x: Tensor) -> bool:
        """Whether repeating the activation gives each copy's logits, as where no data bypasses the layer."""
        masks = torch.ones(2, self.channels, device=self.device)
        masks[1, 0] = 0
        alone = torch.cat([self._masked(x, mask) for mask in masks.split(1)])
        try:
            together = self._masked(x, masks)
        except RuntimeError:  # another path brings fewer images
            return False
        return together.shape == alone.shape and torch.allclose(together, alone, rtol=1e-3, atol=1e-4)

    def _follow(self, layer: nn.Module) -> None:
        """Hooks that follow the layer's output: a module belongs to the chain if it is given the very tensor that the
        one before it returned, so that a ReLU that serves several layers is told apart by its uses."""
        self._current: Tensor | None = None
        self._change: Change | None = None
        self._passed: list[nn.Module] = []

        def start(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            self._current, self._passed = out, []

        def go_on(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
            if given[0] is not self._current:
                return out
            self._passed.append(module)
            if self._change is not None and len(self._passed) == len(self._chain):
                out = self._change(out)
            self._current = out
            return out

        layer.register_forward_hook(start)
        for module in self.network.modules():
            if isinstance(module, RECTIFIERS + NORMS + OTHERS):
                module.register_forward_hook(go_on)

    @torch.no_grad()
    def _logits(self, x: Tensor, change: Change | None = None) -> Tensor:
        """Logits of a batch, with the activation changed on its way."""
        self._change, self._current = change, None
        logits = class_logits(self.network(x))
        self._current = None
        return logits


def stop_step(curve: pd.DataFrame, tau: float) -> int:
    """The first step of a curve at which clean accuracy has dropped by at least tau percentage points since step 0:
    that network is kept. Raises InputError where it never drops so far."""
    accuracy = curve["clean_accuracy"].to_numpy()
    lost = 100 * (accuracy[0] - accuracy)
    dropped = lost >= tau - ROUNDING
    if not dropped.any():
        raise InputError(
            f"badnet.tau: pruning costs at most {lost.max():.1f} points of clean accuracy and never {tau:g}: give a"
            " smaller tau, or another layer."
        )
    return int(dropped.argmax())


def pruned_channels(curve: pd.DataFrame, tau: float) -> np.ndarray:
    """The channels of a curve that are pruned in the network that stop_step keeps, int64."""
    return curve["channel"].to_numpy()[1 : stop_step(curve, tau) + 1]
