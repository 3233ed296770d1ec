"""How the default run's recipe was chosen: on a split of the digits' training data, never on the test set.

    python benchmarks/tune_digits.py

The last fifth of the training images (their writers differ from the others') is the validation set; the rest is
partitioned into 50. One row per recipe: base and ensemble accuracy there, and the median certified radius.
"""

import time

import numpy as np

from mithridate import device
from mithridate.certify.aggregation import certify_dpa, vote_counts
from mithridate.data.digits import digits
from mithridate.data.partition import partition_indices
from mithridate.options.dpa import ScoringOptions
from mithridate.options.training import AugmentationOptions, TrainingOptions
from mithridate.scoring.scores import Scorer
from mithridate.training.family import Subset, train_family
from mithridate.training.recipe import resolve

K, SCALE = 50, 1 / 16
NONE = AugmentationOptions(crop_padding=0, rotation=0, scaling=0)
SHIFT = AugmentationOptions(crop_padding=1, rotation=0, scaling=0)
RECIPES = {
    "no augmentation": {"augmentation": NONE},
    "shifts by a pixel": {"augmentation": SHIFT},
    "rotation, scaling, shifts (default)": {},
    "no label smoothing": {"label_smoothing": 0},
    "no warm-up": {"warmup": 0},
    "learning rate 0.05": {"learning_rate": 0.05},
    "learning rate 0.1": {"learning_rate": 0.1},
    "learning rate 0.4": {"learning_rate": 0.4},
    "weight decay 5e-4": {"weight_decay": 5e-4},
    "weight decay 5e-3": {"weight_decay": 5e-3},
    "100 steps": {"steps": 100},
    "250 steps": {"steps": 250},
    "400 steps": {"steps": 400},
    "batch 16": {"batch_size": 16},
}


def main() -> None:
    device.prepare()
    data = digits()
    cut = len(data.y_train) * 4 // 5
    x, y, x_val, y_val = data.x_train[:cut], data.y_train[:cut], data.x_train[cut:], data.y_train[cut:]
    subsets = []
    for number, rows in enumerate(partition_indices(x, y, K)):
        z = x[rows] * SCALE
        subsets.append(Subset(number, x[rows], y[rows], z.mean((0, 2, 3)), z.std((0, 2, 3), ddof=1)))
    mean, std = np.stack([s.mean for s in subsets]), np.stack([s.std for s in subsets])
    scorer = Scorer(x_val, scale=SCALE, model="small_cnn", num_classes=10, options=ScoringOptions(), device="cpu")
    print(f"{cut} training images, {len(y_val)} for validation, k = {K}")
    for name, changes in RECIPES.items():
        options = TrainingOptions(**changes)
        recipe = resolve(options, model="small_cnn", shape=(1, 8, 8), num_classes=10, scale=SCALE, seed=0, device="cpu")
        start = time.perf_counter()
        family = train_family(subsets, recipe)
        seconds = time.perf_counter() - start
        scores = scorer.score(family, mean, std).scores
        prediction, radius = certify_dpa(vote_counts(scores))
        right = np.where(prediction == y_val, radius, -1)
        base = (scores.argmax(2) == y_val[:, None]).mean()
        median = np.median(right)
        print(
            f"{name:38s} base {base:.3f}  ensemble {(right >= 0).mean():.3f}"
            f"  median radius {median:4.0f}  {seconds:5.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
