"""One hypergradient of the bilevel attack: products from one retained graph, against differentiating the residual.

    python benchmarks/bilevel.py [--batch 200] [--steps 10] [--repeats 3] [--procedures gaussian macer smoothadv]

Both take the same Adam steps (T2) on ‖(H + s)p − b‖² and then the mixed derivative, on one thread, for the networks of
the digits (8 x 8) and of MNIST (28 x 28). `autograd` is what one writes first: the residual by a Hessian-vector product
that can itself be differentiated (a graph of third order in every step). Each runs in a process of its own; memory is
how far the peak rises above what the process held before.
"""

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from torch import Tensor

from mithridate import device
from mithridate.attacks.hypergradient import Adam, LinearSystem
from mithridate.attacks.surrogate import Setting, Surrogate
from mithridate.noise import gaussian
from mithridate.options.smoothing import CONSTANTS, BilevelOptions, Procedure

SIGMA, CLASSES = 0.5, 10
NETWORKS = {"smoothing_digits": (1, 8, 8), "smoothing_mnist": (1, 28, 28)}


def autograd(cost: Tensor, weights: Tensor, images: Tensor, right: Tensor, options: BilevelOptions) -> Tensor:
    gradient = torch.autograd.grad(cost, weights, create_graph=True)[0]
    vector, adam = torch.zeros_like(right), Adam((1, len(right)), options.vector_rate)
    for _ in range(options.vector_steps):
        vector = vector.requires_grad_()
        product = torch.autograd.grad(gradient, weights, vector, create_graph=True)[0]
        residual = (product + options.damping * vector - right).square().sum()
        vector = adam.step_all(vector.detach(), torch.autograd.grad(residual, vector)[0])
    return torch.autograd.grad(gradient, images, vector)[0]


def products(cost: Tensor, weights: Tensor, images: Tensor, right: Tensor, options: BilevelOptions) -> Tensor:
    system, adam = LinearSystem(cost, weights, options.damping), Adam((1, len(right)), options.vector_rate)
    vector = system.descend(torch.zeros_like(right), right, options.vector_steps, adam)
    return system.solved(vector, images)[1]


def measure(
    way: str, model: str, procedure: Procedure, batch: int, steps: int, repeats: int
) -> tuple[float, float, np.ndarray]:
    """Least CPU seconds, the peak's rise in MB, and the mixed derivative."""
    device.prepare()
    options, shape = BilevelOptions(vector_steps=steps), NETWORKS[model]
    setting = Setting(procedure, model, SIGMA, 0.1, 0, options, CONSTANTS[procedure]())
    surrogate = Surrogate(setting, shape, CLASSES, 0)
    images, labels = gaussian((batch, *shape), "images").sigmoid(), torch.arange(batch) % CLASSES
    draws = (options.macer_draws,) if procedure == "macer" else ()
    noise = SIGMA * gaussian((batch, *draws, *shape), "noise")
    for _ in range(3):
        surrogate.train(images, labels, noise)
    right = gaussian((len(surrogate.weights),), "right")
    seconds = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(repeats):
        weights, moved = surrogate.weights.detach().requires_grad_(), images.clone().requires_grad_()
        start = time.process_time()
        cost = surrogate.lower(weights, moved, labels, noise, training=False)
        mixed = {"autograd": autograd, "products": products}[way](cost, weights, moved, right, options)
        seconds.append(time.process_time() - start)
        del cost
    return min(seconds), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, mixed.numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--procedures", nargs="+", default=["gaussian", "macer", "smoothadv"])
    given = parser.parse_args()
    print(f"batch {given.batch}, T2 = {given.steps}, one thread, PyTorch {torch.__version__}")
    for model in NETWORKS:
        for procedure in given.procedures:
            found = {}
            for way in ("autograd", "products"):
                with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                    task = pool.submit(measure, way, model, procedure, given.batch, given.steps, given.repeats)
                    found[way] = task.result()
            (slow, much, theirs), (fast, little, ours) = found["autograd"], found["products"]
            apart = abs(ours - theirs).max() / abs(theirs).max()
            print(
                f"{model:17s} {procedure:10s} autograd {slow:7.3f} s {much:6.0f} MB   products {fast:7.3f} s"
                f" {little:6.0f} MB   ratio {slow / fast:.2f} {much / little:.2f}   difference {apart:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
