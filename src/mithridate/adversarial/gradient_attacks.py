"""White-box attacks within an ε-ball of the maximum norm, by IBM's ART, and their random control.

Sources: FGSM, Goodfellow et al., ICLR 2015; PGD, Madry et al., ICLR 2018; AutoAttack, Croce & Hein, ICML 2020.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from mithridate.adversarial.toolbox import attackable, global_generators, one_hot
from mithridate.attacks.poisons import ball
from mithridate.data.checks import check_labels, pieces
from mithridate.errors import InputError
from mithridate.options.dgn import AutoAttackOptions, EvaluationOptions, GradientAttackOptions
from mithridate.progress import Progress
from mithridate.repair.predict import check_pairs, pixels, predictions
from mithridate.streams import Stream

BATCH = 128  # images that are attacked together; another number gives other random starts
SQUARE_SHARE = 0.8  # of the pixels in Square's first squares, as its authors chose


@dataclass(frozen=True)
class Fgsm:
    """One step of size ε along the sign of the gradient of the cross-entropy."""

    name = "fgsm"


@dataclass(frozen=True)
class Pgd:
    """Steps of size `step` along the gradient's sign, each followed by a projection, from `starts` random places in the
    ball (0: from the image). The first start that ends in another class counts, else the first."""

    step: float
    iterations: int
    starts: int
    name = "pgd"


Method = Fgsm | Pgd | AutoAttackOptions


def method(name: str, options: GradientAttackOptions | EvaluationOptions, part: float = 1.0) -> Method:
    """The attack of this name with the budget that options give; PGD's steps are `part` of theirs, which they should be
    in a ball that is. Raises InputError for an unknown name."""
    if name == "fgsm":
        return Fgsm()
    if name == "pgd":
        return Pgd(part * options.eps_steps_pgd, options.max_iterations_pgd, options.num_random_init_pgd)
    if name == "autoattack" and isinstance(options, EvaluationOptions):
        return options.autoattack
    raise InputError(f"attack {name!r} is not known here: choose fgsm, pgd or, for an evaluation, autoattack.")


def attack(
    network: nn.Module,
    images: np.ndarray,
    labels: np.ndarray | None,
    how: Method,
    *,
    epsilon: float,
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
) -> np.ndarray:
    """Adversarial images float32 [n,C,H,W] of images of that kind in [0, 1], within ε and [0, 1] exactly.

    The network maps images to logits; a copy in evaluation mode is attacked, away from labels int64 [n], or, where they
    are None, from the classes that it predicts. AutoAttack leaves an image as it is that the network takes for another
    class anyway, or that no version fools. The result of an image depends on the network, `how`, ε, the seed and the
    images, labels and number of its batch of BATCH consecutive ones, not on other batches nor on global random
    generators, which are left as they were. `progress` counts images.

    Raises InputError for images outside [0, 1], labels that are no classes, and what AutoAttack cannot do with them.
    """
    truth = predictions(network, images, scale=1.0, device=device) if labels is None else labels
    check_pairs(images, truth)
    if epsilon == 0:
        return images.copy()
    target = attackable(network, images.shape[1:], device)
    check_labels("labels", truth, target.nb_classes)
    starts = how.starts if isinstance(how, Pgd) else 1
    single = replace(how, starts=min(1, how.starts)) if isinstance(how, Pgd) else how
    made = np.empty_like(images)
    with global_generators(0, device):  # PyTorch's loaders draw even where they do not shuffle
        art = prepared(target, single, float(epsilon), BATCH)
    for number, start in enumerate(range(0, len(images), BATCH)):
        rows = slice(start, start + BATCH)
        x, y = pixels(images[rows], 1.0).numpy(), one_hot(truth[rows], target.nb_classes)
        with global_generators(Stream("gradient attack", seed, how.name, number).seed(), device):
            made[rows] = into_ball(x, art.generate(x=x, y=y), epsilon)
            # Not by ART, to which a start succeeds that changes the prediction, be it to the true class.
            for _ in range(1, starts):
                left = start + np.flatnonzero(target.predict(made[rows]).argmax(1) == truth[rows])
                if not len(left):
                    break
                other = into_ball(images[left], art.generate(x=images[left], y=y[left - start]), epsilon)
                fooled = target.predict(other).argmax(1) != truth[left]
                made[left[fooled]] = other[fooled]
        if progress is not None:
            progress.add(len(x))
    return made


def random_signs(images: np.ndarray, epsilon: float, seed: int, name: str) -> np.ndarray:
    """The control: every pixel of images float32 [n,C,H,W] in [0, 1] moves by +ε or −ε with probability ½, within
    [0, 1]. `name` and seed determine the signs."""
    made = np.empty_like(images)
    for number, start in enumerate(range(0, len(images), BATCH)):
        rows = slice(start, start + BATCH)
        low, high = ball(images[rows], epsilon)
        up = Stream("random signs", seed, name, number).uniform(BATCH, *images.shape[1:])[: len(low)] < 0.5
        made[rows] = np.where(up, high, low)
    return made


def into_ball(images: np.ndarray, adversarial: np.ndarray, epsilon: float) -> np.ndarray:
    """Adversarial images [n,C,H,W] brought, as float32, within ε of images float32 [n,C,H,W] and within [0, 1], exactly
    as well as in float32 arithmetic (attacks.poisons.ball). NaN becomes the original pixel."""
    made = np.empty_like(images)
    for rows in pieces(images, 8):
        low, high = ball(images[rows], epsilon)
        made[rows] = np.clip(np.where(np.isnan(adversarial[rows]), images[rows], adversarial[rows]), low, high)
    return made


def prepared(target: Any, how: Method, epsilon: float, batch_size: int) -> Any:
    """ART's attack on a classifier of ART's (adversarial.toolbox), ε > 0, in batches of this size."""
    from art.attacks.evasion import AutoAttack, FastGradientMethod, ProjectedGradientDescent

    within: dict[str, Any] = {"norm": np.inf, "eps": epsilon, "batch_size": batch_size}
    if isinstance(how, Fgsm):
        return FastGradientMethod(target, **within)
    if isinstance(how, Pgd):
        steps = {"eps_step": how.step, "max_iter": how.iterations, "num_random_init": how.starts}
        return ProjectedGradientDescent(target, **within, **steps, verbose=False)
    versions = [_version(name, target, how, within) for name in how.versions]
    return AutoAttack(target, **within, eps_step=2 * epsilon, attacks=versions)


def _version(name: str, target: Any, how: AutoAttackOptions, within: dict[str, Any]) -> Any:
    """One of AutoAttack's attacks, as Croce & Hein set it but for its budget."""
    from art.attacks.evasion import AutoProjectedGradientDescent, DeepFool, SquareAttack

    budget = within | {"max_iter": how.iterations, "verbose": False}
    if name == "deepfool":
        return DeepFool(target, max_iter=how.iterations, epsilon=1e-3, batch_size=within["batch_size"], verbose=False)
    if name == "square":
        height, width = target.input_shape[1:]
        shorter = min(height, width)
        if shorter < 2:
            raise InputError(
                "evaluation.autoattack.versions: square needs images of at least 2 x 2 pixels; leave it out."
            )
        # ART draws a square's corner from [0, side - square), which must not be empty.
        share = min(SQUARE_SHARE, (shorter - 0.6) ** 2 / (height * width))
        return SquareAttack(target, **budget, p_init=share, nb_restarts=how.restarts)
    loss = {"apgd-ce": "cross_entropy", "apgd-dlr": "difference_logits_ratio"}[name]
    if name == "apgd-dlr" and target.nb_classes < 3:
        raise InputError("evaluation.autoattack.versions: apgd-dlr needs at least 3 classes; leave it out.")
    steps = {"eps_step": 2 * within["eps"], "nb_random_init": how.restarts, "loss_type": loss}
    return AutoProjectedGradientDescent(target, **budget, **steps)
