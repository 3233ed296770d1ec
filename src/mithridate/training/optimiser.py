"""Optimisers for a stack, as a handful of operations on one flat vector."""

import torch
from torch import Tensor

from mithridate.options.training import TrainingOptions
from mithridate.training.stack import Stack

BETA_2, EPSILON = 0.999, 1e-8  # Adam's defaults (Kingma & Ba, ICLR 2015)


class Flat:
    """A torch.optim optimiser with a learning rate per member, and members that can rest.

    The stack's parameters become views of one vector, their gradients of another.
    """

    def __init__(self, stack: Stack, options: TrainingOptions) -> None:
        parameters = [p for p in stack.parameters() if p.requires_grad]
        self.theta = torch.cat([p.detach().flatten() for p in parameters])
        self.grad = torch.zeros_like(self.theta)
        self._momentum, self._decay, self._width = options.momentum, options.weight_decay, stack.width
        self._parameters, self._gradients = parameters, []
        self._ends = torch.tensor([p.numel() for p in parameters]).cumsum(0).tolist()
        for p, theta, grad in zip(parameters, self._parts(self.theta), self._parts(self.grad), strict=True):
            p.data, p.grad = theta.view_as(p), grad.view_as(p)
            self._gradients.append(grad.view_as(p))
        if self._width == 1:  # where a member's numbers lie together
            self._ends = self._ends[-1:]

    def differentiate(self, loss: Tensor) -> None:
        """Put the gradient of a loss [] into `grad`; zero for parameters that the loss does not depend on."""
        gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            torch._foreach_copy_(self._gradients, list(gradients))

    def reset(self) -> None:
        """Forget all steps: new members enter."""
        for state in self.state():
            state.zero_()

    def state(self) -> list[Tensor]:
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and state, for snapshots; the tensors themselves."""
        return {"theta": self.theta, **{f"state.{number}": one for number, one in enumerate(self.state())}}

    def step(self, rates: Tensor, active: Tensor | None) -> None:
        """One update. rates float [T]; active bool [T], None for all: a member that is not active keeps every bit."""
        raise NotImplementedError

    def _parts(self, flat: Tensor) -> list[Tensor]:
        """Views [T, numbers] of a flat vector, one a parameter."""
        starts = [0, *self._ends[:-1]]
        return [flat[a:b].view(self._width, -1) for a, b in zip(starts, self._ends, strict=True)]

    def _scale(self, flat: Tensor, values: Tensor) -> Tensor:
        """Multiply, in place, every member's numbers by its own value; values [T]."""
        for part in self._parts(flat):
            part.mul_(values[:, None])
        return flat

    def _put(self, target: Tensor, value: Tensor, active: Tensor | None) -> None:
        if active is None:
            target.copy_(value)
        else:
            for old, new in zip(self._parts(target), self._parts(value), strict=True):
                old.copy_(torch.where(active[:, None], new, old))


class FlatSGD(Flat):
    """torch.optim.SGD(nesterov=True)."""

    def __init__(self, stack: Stack, options: TrainingOptions) -> None:
        super().__init__(stack, options)
        self.velocity = torch.zeros_like(self.theta)

    def state(self) -> list[Tensor]:
        return [self.velocity]

    @torch.no_grad()
    def step(self, rates: Tensor, active: Tensor | None) -> None:
        self.grad.add_(self.theta, alpha=self._decay)
        velocity = self.velocity * self._momentum + self.grad
        theta = self.theta - self._scale(self.grad + velocity * self._momentum, rates)
        self._put(self.velocity, velocity, active)
        self._put(self.theta, theta, active)


class FlatAdam(Flat):
    """torch.optim.Adam, whose β₁ is the option momentum."""

    def __init__(self, stack: Stack, options: TrainingOptions) -> None:
        super().__init__(stack, options)
        self.first, self.second = torch.zeros_like(self.theta), torch.zeros_like(self.theta)
        self.steps = torch.zeros(stack.width, device=self.theta.device)

    def state(self) -> list[Tensor]:
        return [self.first, self.second, self.steps]

    @torch.no_grad()
    def step(self, rates: Tensor, active: Tensor | None) -> None:
        self.steps.add_(1 if active is None else active)
        self.grad.add_(self.theta, alpha=self._decay)
        beta_1 = self._momentum
        first = self.first + (1 - beta_1) * (self.grad - self.first)
        second = self.second * BETA_2 + (1 - BETA_2) * self.grad * self.grad
        change = self._scale(first.clone(), rates / (1 - beta_1**self.steps))
        size = self._scale(second.sqrt(), torch.rsqrt(1 - BETA_2**self.steps)).add_(EPSILON)
        self._put(self.first, first, active)
        self._put(self.second, second, active)
        self._put(self.theta, self.theta - change / size, active)


OPTIMISERS: dict[str, type[Flat]] = {"sgd": FlatSGD, "adam": FlatAdam}
