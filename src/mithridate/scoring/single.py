"""What one undefended classifier says of test images."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mithridate.data.partition import Subsets
from mithridate.options.dpa import ScoringOptions
from mithridate.scoring.scores import Scorer
from mithridate.training.family import Family
from mithridate.training.recipe import Recipe


def predictions(
    family: Family,
    subsets: Subsets,
    recipe: Recipe,
    tests: Mapping[str, tuple[np.ndarray, np.ndarray]],
    options: ScoringOptions,
) -> pd.DataFrame:
    """One row per image of each test set (images uint8 [n,C,H,W], labels [n]): trigger (the set's name), index, label,
    prediction, and the radius 0: nothing is certified against a single poisoned sample."""
    tables = []
    for name, (images, labels) in tests.items():
        scorer = Scorer(
            images,
            scale=recipe.scale,
            model=recipe.model,
            num_classes=recipe.num_classes,
            options=options,
            device=recipe.device,
        )
        prediction = scorer.score(family, subsets.mean, subsets.std).scores[:, 0].argmax(1)
        columns = {"index": np.arange(len(labels)), "label": labels, "prediction": prediction, "radius": 0}
        tables.append(pd.DataFrame({"trigger": name, **columns}))
    return pd.concat(tables, ignore_index=True)
