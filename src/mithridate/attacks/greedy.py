"""A real attack on partition aggregation, as strong as one sample a partition allows.

The certificate (Levine & Feizi 2021, theorem 1) lets the attacker set one vote with every sample. A real attacker must
train: here it knows the training set, the algorithm and all votes, attacks one test image with poisons made for it
alone, retrains every base classifier it poisons, and corrupts the partitions where that pays most. The number of
poisons it needs is never smaller than the certificate says (else `CertificateViolation`); how much larger, is the
distance between the certificate and real attacks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from mithridate.certify.aggregation import certify_dpa, count_votes
from mithridate.certify.attack import CertificateViolation
from mithridate.data.checks import image_sums
from mithridate.data.dataset import Header
from mithridate.data.partition import Subsets, buckets, make_subsets
from mithridate.options.dpa import ScoringOptions
from mithridate.progress import Progress
from mithridate.scoring.scores import Scorer
from mithridate.streams import Stream
from mithridate.training.family import train_family
from mithridate.training.recipe import Recipe
from mithridate.training.subset import members_of

MOVES = {"insert": 1, "flip": 1, "both": 2}  # what is done to a partition, and how many samples it costs
TRIES = 1000  # changed images tried per partition until one has the content hash that is wanted


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What the attacker knows: images uint8 [N,C,H,W], labels [N], pixel sums where they are not those of the images,
    and how they are partitioned."""

    images: np.ndarray
    labels: np.ndarray
    sums: np.ndarray | None
    subsets: Subsets
    header: Header

    def changed(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, Subsets]:
        """The training set with `images` added and `labels` for all, and its partition."""
        sums = None if self.sums is None else np.concatenate([self.sums, image_sums(images)])
        images = np.concatenate([self.images, images])
        hash, k = self.subsets.hash, self.subsets.k
        subsets = make_subsets(images, labels, k, scale=self.header.scale, sums=sums, hash=hash)  # type: ignore[arg-type]
        return images, labels, subsets


class Outcome(NamedTuple):
    """What an attack on one test image came to."""

    rival: int
    """the class it tried to have predicted"""
    corrupted: dict[int, str] | None
    """by partition what was done to it; None where nothing that was tried changed the prediction"""
    retrained: int
    """base classifiers it trained"""


class Attacker:
    """Attacks test images of one ensemble, which `recipe` trains and `scoring` scores."""

    def __init__(
        self, training: TrainingSet, recipe: Recipe, scoring: ScoringOptions, checkpoints: Path | None = None
    ) -> None:
        self.training, self.recipe, self.scoring, self.checkpoints = training, recipe, scoring, checkpoints
        self.k = training.subsets.k

    def attack(self, image: np.ndarray, votes: np.ndarray) -> Outcome:
        """Change the prediction for a test image uint8 [C,H,W] with votes [k].

        First one image is inserted into each partition: the test image itself, changed by a few grey levels until it
        hashes there, with the rival's label; where that is not enough, the label of the training image most like it is
        flipped instead, and then both.
        """
        classes = self.recipe.num_classes
        counts = count_votes(votes[None], classes)
        prediction, radius = (int(value[0]) for value in certify_dpa(counts))
        rival = _rival(counts[0], prediction)
        worth = np.zeros(classes, np.int64)
        worth[prediction], worth[rival] = -1, 1
        best, moves, retrained = votes.copy(), dict[int, str](), 0
        corrupted: dict[int, str] | None = None
        for move in MOVES:
            numbers = np.flatnonzero(best != rival)
            if not len(numbers) or (corrupted and _price(corrupted) == radius + 1):
                break
            after = self._retrain(dict.fromkeys(numbers.tolist(), move), image, rival)
            retrained += len(numbers)
            for number in numbers[worth[after] > worth[best[numbers]]].tolist():
                best[number], moves[number] = after[numbers == number][0], move
            gain = {number: (worth[best] - worth[votes])[number] / MOVES[moves[number]] for number in moves}
            order = sorted(moves, key=lambda number: (-gain[number], number))
            found = _fewest(votes, best, {number: moves[number] for number in order}, prediction, classes)
            if found is not None and (corrupted is None or _price(found) < _price(corrupted)):
                corrupted = found
        return Outcome(rival, corrupted, retrained)

    def poison(self, moves: Mapping[int, str], image: np.ndarray, rival: int) -> tuple[np.ndarray, np.ndarray, Subsets]:
        """The training set in which each partition of `moves` is poisoned as it says: images, labels, partition."""
        training = self.training
        labels, added = training.labels.copy(), []
        for number, move in moves.items():
            position = self._most_alike(number, image, rival)
            if move != "insert" and position is not None:
                labels[position] = rival
            top = round(1 / training.header.scale)
            if move != "flip" and (made := hashed_to(image, number, self.k, top, training.subsets.hash)) is not None:
                added.append(made)
        labels = np.concatenate([labels, np.full(len(added), rival)])
        return training.changed(np.stack(added) if added else np.zeros((0, *image.shape), np.uint8), labels)

    def _retrain(self, moves: Mapping[int, str], image: np.ndarray, rival: int) -> np.ndarray:
        """What the classifiers of the partitions of `moves` vote for `image` once each is poisoned."""
        images, labels, subsets = self.poison(moves, image, rival)
        numbers = np.array(list(moves))
        poisoned = members_of(numbers, subsets, images, labels)
        family = train_family(poisoned, self.recipe, checkpoints=self.checkpoints)
        scorer = Scorer(
            image[None],
            scale=self.training.header.scale,
            model=self.recipe.model,
            num_classes=self.recipe.num_classes,
            options=self.scoring,
            device=self.recipe.device,
        )
        return scorer.score(family, subsets.mean[numbers], subsets.std[numbers]).scores[0].argmax(1)

    def _most_alike(self, number: int, image: np.ndarray, rival: int) -> int | None:
        """The training image of a partition that is nearest to `image` and has another label than the rival's."""
        rows = self.training.subsets.indices[number]
        rows = rows[self.training.labels[rows] != rival]
        if not len(rows):
            return None
        distance = np.square(self.training.images[rows].astype(np.int64) - image).reshape(len(rows), -1).sum(1)
        return int(rows[distance.argmin()])


def _rival(counts: np.ndarray, prediction: int) -> int:
    """The class with the least lead to make up."""
    lead = counts[prediction] - counts - (np.arange(len(counts)) < prediction)
    lead[prediction] = lead.max() + 1
    return int(lead.argmin())


def _fewest(
    votes: np.ndarray, after: np.ndarray, moves: Mapping[int, str], prediction: int, classes: int
) -> dict[int, str] | None:
    """The first of `moves`, in their order, after which the prediction has changed; None where it never does."""
    changed, made = votes.copy(), dict[int, str]()
    for number, move in moves.items():
        changed[number], made[number] = after[number], move
        if count_votes(changed[None], classes)[0].argmax() != prediction:
            return made
    return None


def _price(moves: Mapping[int, str]) -> int:
    """Samples that moves cost."""
    return sum(MOVES[move] for move in moves.values())


def hashed_to(image: np.ndarray, number: int, k: int, top: int, hash: str) -> np.ndarray | None:
    """The image uint8 [C,H,W] changed by as few grey levels (0..top) as it takes to lie in partition `number` of k;
    None where that was not found."""
    if hash == "pixel_sum":
        up = (number - int(image.sum())) % k
        for steps in sorted((up, up - k), key=abs):
            changed = _shifted(image, steps, top)
            if changed is not None:
                return changed
        return None
    for attempt in range(TRIES * k):  # a content hash cannot be aimed at, only tried
        changed = image.astype(np.int64)
        pixels = Stream("hashed_to", attempt).permutations(1, image.size)[0][:2]
        changed.reshape(-1)[pixels] += np.array([1, -1]) if attempt else 0
        candidate = changed.clip(0, top).astype(np.uint8)
        if buckets(candidate[None], k, hash="content")[0] == number:
            return candidate
    return None


def _shifted(image: np.ndarray, steps: int, top: int) -> np.ndarray | None:
    """The image with `steps` grey levels more (or fewer, if negative) in sum, one level a pixel and round."""
    changed = image.astype(np.int64).reshape(-1)
    sign = 1 if steps > 0 else -1
    while steps:
        free = np.flatnonzero(changed < top if sign > 0 else changed > 0)[: abs(steps)]
        if not len(free):
            return None
        changed[free] += sign
        steps -= sign * len(free)
    return changed.astype(np.uint8).reshape(image.shape)


def attack_points(
    attacker: Attacker,
    images: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    positions: Sequence[int],
    progress: Progress,
) -> pd.DataFrame:
    """Attack the test images at `positions`, each by itself: index, label, prediction, rival, radius (the certificate),
    poisons (needed; empty where no attack succeeded), retrained.

    images uint8 [n,C,H,W], labels [n], scores [n,k,classes] of the clean ensemble. Raises CertificateViolation where
    fewer poisons than certified were enough.
    """
    rows = []
    for position in positions:
        own = scores[position].argmax(1)
        (prediction,), (radius,) = certify_dpa(count_votes(own[None], scores.shape[2]))
        found = attacker.attack(images[position], own)
        poisons = None if found.corrupted is None else _price(found.corrupted)
        if poisons is not None and poisons <= radius:
            raise CertificateViolation(
                f"test image {position} is certified against {radius} poisons, but {poisons} changed its prediction."
            )
        rows.append([position, labels[position], prediction, found.rival, radius, poisons, found.retrained])
        progress.add(1)
    names = ["index", "label", "prediction", "rival", "radius", "poisons", "retrained"]
    return pd.DataFrame(rows, columns=names).astype({"poisons": "Int64"})


def draw_points(scores: np.ndarray, labels: np.ndarray, count: int, seed: int) -> list[int]:
    """Positions of `count` test images, drawn among those that DPA predicts right; all where there are fewer."""
    prediction, _ = certify_dpa(count_votes(scores.argmax(2), scores.shape[2]))
    right = np.flatnonzero(prediction == labels)
    order = Stream("greedy", seed).permutations(1, len(right))[0]
    return sorted(int(position) for position in right[order[:count]])
