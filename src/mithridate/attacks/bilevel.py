"""The bilevel poisoning attack on randomized smoothing: images of one class move within an ε-ball, labels unchanged, so
that a network trained on them has small certified radii on that class.

Source: Mehra, Kailkhura, Chen & Hamm, CVPR 2021, ApproxGrad. The attacker keeps a network in training (`surrogate`,
which says how BatchNorm is treated) and takes its images one step down the hypergradient per batch.

Noise: Gaussian victims see new noise in every training step. MACER's and SmoothAdv's have one noise per image and batch
(MACER's: `macer_draws`). What the linear system uses is drawn once and frozen. All of it, the batches and the networks
are functions of the experiment's seed, the procedure, epoch, batch and step.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mithridate.attacks.hypergradient import Adam, LinearSystem
from mithridate.attacks.poisons import AttackData, Poison, ball
from mithridate.attacks.surrogate import Setting, Surrogate
from mithridate.closure import closure, digest, model_file
from mithridate.errors import InputError
from mithridate.noise import gaussian
from mithridate.progress import Progress
from mithridate.streams import Stream
from mithridate.training.snapshot import Snapshot, machine, name

TRIES = 3  # networks that may diverge between two restarts
HELD_OUT = -1  # the step in the name of the held-out images' noise


class Diverged(Exception):
    """The attacker's network has a cost or gradient that is no number."""


class Attacker:
    """Makes the poison of one setting; its state is saved after every epoch in the folder `checkpoints`, if given.

    An interrupted attack goes on from there and gives the same bits. The file is named by a digest of the data, the
    setting, the code, the versions and the processor; anything else starts from the beginning.
    """

    def __init__(self, data: AttackData, setting: Setting, checkpoints: Path | None = None) -> None:
        self.data, self.setting = data, setting
        known = (data.images, *ball(data.images, setting.epsilon), data.others, data.other_labels, data.validation)
        self.clean, self.low, self.high, self.others, self.other_labels, self.validation = (
            torch.from_numpy(np.ascontiguousarray(array)).to(setting.device) for array in known
        )
        self.images = self.clean.clone()
        self.epoch, self.tries = 0, 0
        self.history: list[dict[str, float]] = []
        self._snapshot = Snapshot(checkpoints, _key(data, setting))
        self._restart()

    def attack(self, progress: Progress) -> Poison:
        """The poison after all epochs, of which those in the checkpoint are not run again; progress counts epochs.

        Raises InputError where three networks diverged between two restarts.
        """
        data, setting = self.data, self.setting
        self._resume()
        progress.skip(self.epoch)
        while self.epoch < setting.options.epochs:
            before = self.images.clone()
            try:
                self.history.append(self._run_epoch(progress))
            except Diverged as error:
                self.images = before
                self._replace_network(error)
                continue
            self.epoch += 1
            if self.epoch % setting.options.restart == 0:
                self.tries = 0
                self._restart()
            self._snapshot.save(self._tensors(), epoch=self.epoch, tries=self.tries, history=self.history)
            progress.add(1)
        labels = np.full(len(data.index), data.target, np.int64)
        how = (data.sha256, setting.procedure, setting.sigma, setting.epsilon, data.target, setting.seed)
        return Poison(
            self.images.cpu().numpy(), data.index, labels, *how, setting.describe(), pd.DataFrame(self.history)
        )

    def _restart(self) -> None:
        """A new network, and all optimisers and the linear system's solution afresh; the images persist."""
        setting, options, (_, *shape) = self.setting, self.setting.options, self.data.images.shape
        cycle = self.epoch // options.restart
        self.surrogate = Surrogate(setting, (shape[0], shape[1], shape[2]), self.data.num_classes, cycle, self.tries)
        states = options.poison_batch if options.shared_state else len(self.images)
        self.image_steps = Adam((states, *shape), options.image_rate, setting.device)

    def _replace_network(self, error: Diverged) -> None:
        """Repeat the epoch in which the network diverged with a new one from another stream."""
        self.tries += 1
        if self.tries == TRIES:
            raise InputError(
                f"smoothing.attack: {TRIES} networks diverged in epoch {self.epoch} of the attack on"
                f" {self.setting.procedure} ({error}); lower smoothing.attack.learning_rate"
                f" (now {self.setting.options.learning_rate:g}), or mend {self.setting.model} if its outputs are no"
                " numbers."
            ) from error
        self._restart()

    def _run_epoch(self, progress: Progress) -> dict[str, float]:
        """One pass over the target's images; what the history says of it: means over batches, and the mean over images
        of the largest change of a pixel."""
        setting, options = self.setting, self.setting.options
        order = self._shuffled(len(self.images), "images").split(options.poison_batch)
        others, held_out = self._shuffled(len(self.others), "others"), self._shuffled(len(self.validation), "held out")
        rows = []
        cards = [self.images.device] if self.images.is_cuda else []
        with torch.random.fork_rng(cards):  # for layers with randomness of their own, e.g. dropout
            torch.manual_seed(Stream("bilevel layers", setting.seed, setting.procedure, self.epoch, self.tries).seed())
            for batch, own in enumerate(order):
                known = _part(others, batch, options.clean_batch), _part(held_out, batch, options.validation_batch)
                rows.append(self._run_batch(batch, own, *known))
                progress.share((batch + 1) / len(order))
        lower, upper, residual, right = np.mean(rows, axis=0).tolist()
        means = {"lower_cost": lower, "upper_cost": upper, "residual": residual, "right_side": right}
        moved = (self.images - self.clean).abs().flatten(1).amax(1).mean().item()
        return {"epoch": self.epoch, "networks_diverged": self.tries, **means, "mean_change": moved}

    def _run_batch(self, batch: int, own: Tensor, others: Tensor, held_out: Tensor) -> list[float]:
        """Steps on the weights (T1), on the linear system's solution (T2), and one on the images at rows `own`: lower
        and upper cost, the norms of the system's residual and of its right side ∇_v f."""
        options, surrogate = self.setting.options, self.surrogate
        moved = self.images[own].requires_grad_()
        images = torch.cat([self.others[others], moved])
        labels = torch.cat([self.other_labels[others], torch.full_like(own, self.data.target)])
        draws = (options.macer_draws,) if self.setting.procedure == "macer" else ()
        fresh = self.setting.procedure == "gaussian"
        for step in range(options.weight_steps):
            noise = self._noise((len(images), *draws), batch, step if fresh else 0)
            surrogate.train(images.detach(), labels, noise)
        weights = surrogate.weights.requires_grad_()
        noise = self._noise((len(held_out), options.draws), batch, HELD_OUT)
        aims = torch.full_like(held_out, self.data.target)
        upper = surrogate.upper(weights, self.validation[held_out], aims, noise)
        right = torch.autograd.grad(upper, weights)[0]
        noise = self._noise((len(images), *draws), batch, options.weight_steps if fresh else 0)
        lower = surrogate.lower(weights, images, labels, noise, training=False)
        system = LinearSystem(lower, weights, options.damping)
        vector = system.descend(surrogate.vector, right, options.vector_steps, surrogate.vector_steps)
        applied, mixed = system.solved(vector, moved)
        surrogate.weights, surrogate.vector = weights.detach(), vector
        means = torch.stack([lower.detach(), upper.detach(), (applied - right).norm(), right.norm()]).tolist()
        if not (np.isfinite(means).all() and mixed.isfinite().all()):
            raise Diverged(f"lower cost {means[0]:g}, upper cost {means[1]:g}, residual {means[2]:g}")
        rows = torch.arange(len(own), device=own.device) if options.shared_state else own
        stepped = self.image_steps.step(moved.detach(), -mixed, rows)
        self.images[own] = stepped.clamp(self.low[own], self.high[own])
        return means

    def _shuffled(self, n: int, what: str) -> Tensor:
        """range(n) in the epoch's order, int64 [n]."""
        stream = Stream("bilevel order", self.setting.seed, self.setting.procedure, self.epoch, what)
        return torch.from_numpy(stream.permutations(1, n)[0]).to(self.setting.device)

    def _noise(self, counts: tuple[int, ...], batch: int, step: int) -> Tensor:
        """Noise [*counts, C,H,W] of deviation σ."""
        setting, shape = self.setting, (*counts, *self.data.images.shape[1:])
        name = ("bilevel noise", setting.seed, setting.procedure, self.epoch, batch, step)
        return gaussian(shape, *name, device=setting.device).mul_(setting.sigma)

    def _tensors(self) -> dict[str, Tensor]:
        """The state, but for the numbers; the tensors themselves."""
        steps = {f"image_steps.{name}": tensor for name, tensor in self.image_steps.tensors().items()}
        return {"images": self.images, **steps, **self.surrogate.tensors()}

    def _resume(self) -> None:
        """Take up the state that was saved; where there is none or its file is damaged, begin."""
        if numbers := self._snapshot.load(self._tensors()):
            self.epoch, self.tries, self.history = numbers["epoch"], numbers["tries"], numbers["history"]


def _part(order: Tensor, batch: int, size: int) -> Tensor:
    """The next `size` of an order that is gone through round and round; all of it where there are fewer."""
    size = min(size, len(order))
    return order[(batch * size + torch.arange(size, device=order.device)) % len(order)]


def _key(data: AttackData, setting: Setting) -> str:
    """The digest of all that the attack's course depends on."""
    code = digest([*closure(Path(__file__)), *model_file(setting.model)])
    known = [setting.describe(), data.target, data.num_classes, code, *machine(setting.device)]
    return name(known, (data.images, data.others, data.other_labels, data.validation))
