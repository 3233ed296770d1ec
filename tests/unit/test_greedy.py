"""The greedy attack: its poisons lie where they should, its claims hold when all is trained again, and it never beats
a certificate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mithridate import device
from mithridate.attacks import greedy
from mithridate.attacks.greedy import MOVES, Attacker, TrainingSet, attack_points, draw_points, hashed_to
from mithridate.certify.aggregation import certify_dpa, count_votes
from mithridate.certify.attack import CertificateViolation
from mithridate.data.dataset import Header
from mithridate.data.digits import digits
from mithridate.data.partition import buckets, make_subsets
from mithridate.options.dpa import ScoringOptions
from mithridate.options.training import TrainingOptions
from mithridate.progress import Progress
from mithridate.scoring.scores import Scorer
from mithridate.training.family import train_family
from mithridate.training.recipe import resolve
from mithridate.training.subset import Subset

K, SCALE = 5, 1 / 16
DIGITS = digits()
X, Y = DIGITS.x_train[:300], DIGITS.y_train[:300]
HEADER = Header("digits", "", "", SCALE, DIGITS.class_names, "", (1, 8, 8), len(X), 40)
RECIPE = resolve(
    TrainingOptions(steps=60), model="mlp", shape=(1, 8, 8), num_classes=10, scale=SCALE, seed=0, device="cpu"
)
SCORING = ScoringOptions(batch_size=64)


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def scores_of(images, labels, subsets, test) -> np.ndarray:
    family = train_family(
        [
            Subset(n, images[rows], labels[rows], subsets.mean[n], subsets.std[n])
            for n, rows in enumerate(subsets.indices)
        ],
        RECIPE,
    )
    scorer = Scorer(test, scale=SCALE, model="mlp", num_classes=10, options=SCORING, device="cpu")
    return scorer.score(family, subsets.mean, subsets.std).scores


@pytest.fixture(scope="module")
def ensemble():
    device.prepare()
    subsets = make_subsets(X, Y, K, scale=SCALE)
    test, labels = DIGITS.x_test[:40], DIGITS.y_test[:40]
    attacker = Attacker(TrainingSet(X, Y, None, subsets, HEADER), RECIPE, SCORING)
    return attacker, test, labels, scores_of(X, Y, subsets, test)


def prediction(votes: np.ndarray) -> int:
    return int(count_votes(votes[None], 10)[0].argmax())


def test_a_claimed_attack_works_when_everything_is_trained_again(ensemble):
    attacker, test, labels, scores = ensemble
    succeeded = 0
    for position in draw_points(scores, labels, 6, seed=0):
        votes = scores[position].argmax(1)
        found = attacker.attack(test[position], votes)
        assert found.retrained >= 1
        if found.corrupted is None:
            continue
        succeeded += 1
        images, poisoned_labels, subsets = attacker.poison(found.corrupted, test[position], found.rival)
        added, flipped = len(images) - len(X), int((poisoned_labels[: len(Y)] != Y).sum())
        assert added + flipped == sum(MOVES[move] for move in found.corrupted.values())
        assert set(buckets(images[len(X) :], K)) <= set(found.corrupted)
        after = scores_of(images, poisoned_labels, subsets, test[position : position + 1])[0].argmax(1)
        assert prediction(after) != prediction(votes)
        untouched = [n for n in range(K) if n not in found.corrupted]
        assert (after[untouched] == votes[untouched]).all()
    assert succeeded


def test_no_attack_beats_the_certificate_and_one_that_did_would_be_reported(ensemble, monkeypatch):
    attacker, test, labels, scores = ensemble
    points = draw_points(scores, labels, 4, seed=1)
    table = attack_points(attacker, test, labels, scores, points, Progress("", 4, write=lambda line: None))
    assert table["index"].tolist() == points
    assert (table["label"] == table["prediction"]).all()
    found = table.dropna(subset="poisons")
    assert (found["poisons"] > found["radius"]).all()
    monkeypatch.setattr(greedy, "certify_dpa", lambda counts: (counts.argmax(1), np.array([9])))
    with pytest.raises(CertificateViolation, match=rf"test image {points[0]} is certified against 9 poisons, but"):
        attack_points(attacker, test, labels, scores, points, Progress("", 4, write=lambda line: None))


def test_the_cheapest_of_all_moves_counts(ensemble, monkeypatch):
    """A later move may change more votes and still cost more samples."""
    attacker, test, _, _ = ensemble
    votes = np.array([0] * 8 + [1] * 4)
    third = iter([2] * 8), iter([0] * 8), iter([1] * 8)  # what poisoned classifiers vote: insert, flip, both
    answers = {"insert": third[0], "flip": third[1], "both": third[2]}

    def retrain(self, moves, image, rival):
        return np.array([next(answers[move]) for move in moves.values()])

    monkeypatch.setattr(Attacker, "_retrain", retrain)
    monkeypatch.setattr(attacker, "k", 12)
    found = attacker.attack(test[0], votes)
    assert found.rival == 1
    assert set(found.corrupted.values()) == {"insert"}
    assert sum(MOVES[move] for move in found.corrupted.values()) == 5


def test_only_images_that_are_predicted_right_are_attacked(ensemble):
    _, _, labels, scores = ensemble
    points = draw_points(scores, labels, 1000, seed=0)
    right = certify_dpa(count_votes(scores.argmax(2), 10))[0] == labels
    assert points == np.flatnonzero(right).tolist()
    assert draw_points(scores, labels, 3, seed=0) == draw_points(scores, labels, 3, seed=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(0, 59), st.sampled_from([1, 16, 255]))
def test_an_inserted_image_lies_in_its_partition_and_differs_by_few_grey_levels(seed, k, number, top):
    image = np.random.default_rng(seed).integers(0, top + 1, (1, 4, 4)).astype(np.uint8)
    made = hashed_to(image, number % k, k, top, "pixel_sum")
    if made is None:  # 16 pixels of few grey levels do not reach every sum
        assert all(total % k != number % k for total in range(16 * top + 1))
        return
    assert made.max() <= top
    assert buckets(made[None], k)[0] == number % k
    assert np.abs(made.astype(int) - image).sum() <= k


def test_a_content_hash_is_aimed_at_by_trying():
    image = X[0]
    for number in range(7):
        made = hashed_to(image, number, 7, 16, "content")
        assert made is not None
        assert buckets(made[None], 7, hash="content")[0] == number
        assert np.abs(made.astype(int) - image).sum() <= 2
