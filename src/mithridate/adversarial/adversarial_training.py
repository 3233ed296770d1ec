"""Robust networks: trained on original and adversarial images.

Sources: Goodfellow et al., ICLR 2015, section 6 (adversarial images made beforehand), and ART's AdversarialTrainer,
which attacks the network while it trains (Kurakin et al., ICLR 2017; Madry et al., ICLR 2018).
"""

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from mithridate.adversarial.gradient_attacks import method, prepared
from mithridate.adversarial.toolbox import ClassLogits, classifier, global_generators, import_art, one_hot
from mithridate.data.checks import check_labels
from mithridate.errors import InputError
from mithridate.options.dgn import AdversarialTrainingOptions, GradientAttackOptions
from mithridate.progress import Progress
from mithridate.repair.predict import check_pairs
from mithridate.streams import Stream
from mithridate.training.plain import Forward, train_plain
from mithridate.training.snapshot import Snapshot


def train_robust(
    network: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    adversarial: np.ndarray | None,
    options: AdversarialTrainingOptions,
    *,
    epsilon: float,
    name: str,
    seed: int,
    rows: np.ndarray | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    snapshot: Snapshot | None = None,
) -> nn.Module:
    """A trained copy, in evaluation mode, of a fresh network from images to logits, whose initialisation is the
    caller's; images float32 [n,C,H,W] in [0, 1] with labels int64 [n].

    gf: minimises (1 − adv_ratio) · mean CE of the images + adv_ratio · mean CE of `adversarial`, float32 [m,C,H,W] in
    [0, 1], of which number i is made of image rows[i], int64 [m], at most one of each (None: one of every image, in
    order). A step takes adv_batch_size images with those adversarial ones that they have, every one of which counts
    n/m-fold, so that both means keep their weights however many images have none.
    default: ART's trainer, for GradientAttackOptions, without `adversarial`; a share adv_ratio of every batch is
    replaced by attacks, of size epsilon, on the true classes of the network as it is.

    Both take Adam and its options adv_…; name, seed and the epoch determine the order, and in ART all its random
    numbers; no global random generator is touched. `progress` counts epochs, of which gf takes those in the snapshot as
    they are. Raises InputError for images that do not fit together, and where training diverges.
    """
    check_pairs(images, labels)
    diverged = (
        f"adversarial training of {name} diverged: lower its adv_learning_rate (now {options.adv_learning_rate:g})."
    )
    if options.adv_training_type == "default":
        if not isinstance(options, GradientAttackOptions):
            raise InputError(f"adv_training_type of {name}: default needs fgsm or pgd; choose gf.")
        if not epsilon > 0:
            raise InputError(f"adv_training_type of {name}: default attacks with an ε above 0; raise epsilon.")
        return _by_art(network, images, labels, options, epsilon, name, seed, device, progress, diverged)
    if adversarial is None:
        raise InputError(f"adv_training_type of {name}: gf trains on stored adversarial images; give them.")
    rows = np.arange(len(adversarial)) if rows is None else rows
    _check(images, adversarial, rows, name)
    x, made = (
        torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device) for array in (images, adversarial)
    )
    place = torch.full((len(images),), -1, device=device)
    place[torch.from_numpy(rows).to(device)] = torch.arange(len(rows), device=device)
    ratio, often = options.adv_ratio, len(images) / len(adversarial)

    def loss(forward: Forward, batch: Tensor, y: Tensor) -> Tensor:
        own = place[batch]
        there = own >= 0
        logits = forward(torch.cat([x[batch], made[own[there]]]))
        each = nn.functional.cross_entropy(logits, torch.cat([y, y[there]]), reduction="none")
        n = len(batch)
        return ((1 - ratio) * each[:n].sum() + ratio * often * each[n:].sum()) / n

    return train_plain(
        network,
        labels,
        loss,
        epochs=options.adv_num_epochs,
        batch_size=options.adv_batch_size,
        rate=lambda step: options.adv_learning_rate * options.adv_decay_rate ** (step // options.adv_decay_step),
        stream=lambda epoch: Stream("adversarial training", seed, name, epoch),
        diverged=diverged,
        momentum=options.adv_momentum,
        weight_decay=options.adv_weight_decay,
        device=device,
        progress=progress,
        snapshot=snapshot,
    )


def _check(images: np.ndarray, adversarial: np.ndarray, rows: np.ndarray, name: str) -> None:
    if not len(adversarial):
        raise InputError(
            f"there is no adversarial image to train {name} on: set mis_classification_check: false, or make others."
        )
    for array in (images, adversarial):
        if array.dtype != np.float32 or array.ndim != 4 or array.shape[1:] != images.shape[1:]:
            raise InputError(
                f"images {images.dtype} {list(images.shape)} and adversarial ones of {name} {adversarial.dtype}"
                f" {list(adversarial.shape)} do not fit: give float32 [n,C,H,W] of one size."
            )
    if len(rows) != len(adversarial) or len(np.unique(rows)) < len(rows) or rows.min() < 0 or rows.max() >= len(images):
        raise InputError(
            f"the rows of {name} do not give {len(adversarial)} adversarial images one of {len(images)} originals each:"
            " they belong to other images; generate them again."
        )


def _by_art(
    network: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    options: GradientAttackOptions,
    epsilon: float,
    name: str,
    seed: int,
    device: str,
    progress: Progress | None,
    diverged: str,
) -> nn.Module:
    import_art()
    from art.defences.trainer import AdversarialTrainer

    trained = deepcopy(network).to(device)
    adam = torch.optim.Adam(
        trained.parameters(),
        lr=options.adv_learning_rate,
        betas=(options.adv_momentum, 0.999),
        weight_decay=options.adv_weight_decay,
    )
    # ART steps it after every batch, which is an epoch of its own to the classifier within.
    falls = torch.optim.lr_scheduler.StepLR(adam, options.adv_decay_step, options.adv_decay_rate)
    target = classifier(ClassLogits(trained), images.shape[1:], device, adam)
    check_labels("labels", labels, target.nb_classes)
    how = prepared(target, method(options.attacks, options), float(epsilon), options.adv_batch_size)
    trainer = AdversarialTrainer(target, how, ratio=options.adv_ratio)
    y = one_hot(labels, target.nb_classes)
    for epoch in range(options.adv_num_epochs):
        with global_generators(Stream("adversarial training", seed, name, epoch).seed(), device):
            trainer.fit(images, y, batch_size=options.adv_batch_size, nb_epochs=1, scheduler=falls)
        if not all(bool(torch.isfinite(parameter).all()) for parameter in trained.parameters()):
            raise InputError(diverged)
        if progress is not None:
            progress.add(1)
    network = deepcopy(network)
    network.load_state_dict(trained.state_dict())
    return network.eval()
