"""ApproxGrad: the gradient of a bilevel problem's upper cost by the variables of its lower one, without unrolling.

min_u f(v*(u)) with v*(u) = argmin_v g(u, v) has, by the implicit function theorem, the gradient
−∇²_uv g · (∇²_vv g)⁻¹ ∇_v f. The linear system is solved by a few Adam steps on its squared residual, warm-started from
batch to batch (Mehra et al., CVPR 2021, ApproxGrad). Here v is one flat vector and u any tensor.
"""

import torch
from torch import Tensor

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # Adam's defaults (Kingma & Ba, ICLR 2015)


class Adam:
    """torch.optim.Adam on tensors of `shape`, each row with a state of its own, of which some may step at a time."""

    def __init__(self, shape: tuple[int, ...], rate: float, device: str = "cpu", dtype: torch.dtype | None = None):
        self.rate = rate
        self.first, self.second = (torch.zeros(shape, device=device, dtype=dtype) for _ in range(2))
        self.steps = torch.zeros(shape[0], device=device, dtype=torch.int64)

    def tensors(self) -> dict[str, Tensor]:
        """The state, for checkpoints; the tensors themselves."""
        return {"first": self.first, "second": self.second, "steps": self.steps}

    @torch.no_grad()
    def step(self, value: Tensor, gradient: Tensor, rows: Tensor) -> Tensor:
        """The values [r, ...] after a step down the gradient, by the state of rows int64 [r], none of them twice."""
        self.steps[rows] += 1
        first = self.first[rows].lerp(gradient, 1 - BETA_1)
        second = self.second[rows] * BETA_2 + (1 - BETA_2) * gradient * gradient
        self.first[rows], self.second[rows] = first, second
        steps = self.steps[rows].double().view(-1, *[1] * (value.ndim - 1))
        mean, square = ((1 - beta**steps).to(value.dtype) for beta in (BETA_1, BETA_2))
        return value - self.rate * (first / mean) / ((second / square).sqrt() + EPSILON)

    def step_all(self, value: Tensor, gradient: Tensor) -> Tensor:
        """The same for one vector [n], where the optimiser's shape is [1, n]."""
        return self.step(value[None], gradient[None], torch.zeros(1, dtype=torch.int64, device=value.device))[0]


class LinearSystem:
    """(H + s)p = b with the Hessian H of a lower cost at the weights, by products from one retained graph.

    The graph is that of the cost's gradient: each product costs one pass backward through it, about two gradients, and
    the squared residual's gradient 2(H + s)r is such a product again, so that no graph of third order is ever built.
    `solved` frees it.
    """

    def __init__(self, cost: Tensor, weights: Tensor, damping: float) -> None:
        """cost is a function of the leaf `weights` [n]; s is `damping`."""
        self.weights, self.damping = weights, damping
        self.gradient = torch.autograd.grad(cost, weights, create_graph=True)[0]

    def product(self, vector: Tensor) -> Tensor:
        """(H + s) · vector [n]."""
        product = torch.autograd.grad(self.gradient, self.weights, vector, retain_graph=True)[0]
        return product.add_(vector, alpha=self.damping)

    def descend(self, vector: Tensor, right: Tensor, steps: int, adam: Adam) -> Tensor:
        """The vector [n] after Adam steps down ‖(H + s) · vector − right‖²; adam's state has one row."""
        for _ in range(steps):
            residual = self.product(vector) - right
            vector = adam.step_all(vector, 2 * self.product(residual))
        return vector

    def solved(self, vector: Tensor, variables: Tensor) -> tuple[Tensor, Tensor]:
        """(H + s) · vector, and the mixed derivative ∇²_uv g · vector by the leaf `variables`, from one last pass."""
        product, mixed = torch.autograd.grad(self.gradient, (self.weights, variables), vector)
        return product.add_(vector, alpha=self.damping), mixed
