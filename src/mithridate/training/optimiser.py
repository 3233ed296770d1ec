"""SGD with Nesterov momentum for a stack, as a handful of operations on one flat vector."""

import torch
from torch import Tensor

from mithridate.options.training import TrainingOptions
from mithridate.training.stack import Stack


class FlatSGD:
    """torch.optim.SGD(nesterov=True) with a learning rate per member, and members that can rest.

    The stack's parameters become views of one vector, their gradients of another.
    """

    def __init__(self, stack: Stack, options: TrainingOptions) -> None:
        parameters = [p for p in stack.parameters() if p.requires_grad]
        self.theta = torch.cat([p.detach().flatten() for p in parameters])
        self.grad, self.velocity = torch.zeros_like(self.theta), torch.zeros_like(self.theta)
        slot = torch.arange(stack.width, device=self.theta.device)
        self._owner = torch.cat([slot.repeat_interleave(p.numel() // stack.width) for p in parameters])
        self._momentum, self._decay, self._single = options.momentum, options.weight_decay, stack.width == 1
        start = 0
        for p in parameters:
            end = start + p.numel()
            p.data, p.grad = self.theta[start:end].view_as(p), self.grad[start:end].view_as(p)
            start = end

    def reset(self) -> None:
        self.velocity.zero_()

    @torch.no_grad()
    def step(self, rates: Tensor, active: Tensor | None) -> None:
        """One update. rates float [T]; active bool [T]: a member that is not active keeps every bit."""
        rate = rates if self._single else rates[self._owner]
        self.grad.add_(self.theta, alpha=self._decay)
        velocity = self.velocity * self._momentum + self.grad
        theta = self.theta - rate * (self.grad + velocity * self._momentum)
        if active is None:
            self.velocity.copy_(velocity)
            self.theta.copy_(theta)
        else:
            keep = active[self._owner]
            self.velocity.copy_(torch.where(keep, velocity, self.velocity))
            self.theta.copy_(torch.where(keep, theta, self.theta))
