"""The votes of RAB's networks: each sees a test image under one noise of its own, which its parameters determine.

Source: Weber et al., "RAB: Provable Robustness Against Backdoor Attacks", IEEE S&P 2023, section 4 (algorithm 2). The
public code seeds one library's generator and draws with another's; here the generator that is seeded draws.
"""

import numpy as np

from mithridate.noise import gaussian
from mithridate.options.dpa import ScoringOptions
from mithridate.progress import Progress
from mithridate.scoring.scores import Scorer
from mithridate.training.family import Family, weight_hash


class Voters:
    """RAB's networks, ready to be shown test images.

    A member sees every test image with the same added noise N(0, sigma²), drawn by a generator that is seeded with
    the SHA-256 of its parameters.
    """

    def __init__(
        self,
        family: Family,
        shape: tuple[int, int, int],
        *,
        scale: float,
        sigma: float,
        model: str,
        num_classes: int,
        batch_size: int,
        device: str,
    ) -> None:
        names = [weight_hash(family.member(position)) for position in range(len(family.subset_ids))]
        noise = [gaussian(shape, "rab test", name, device=device).cpu().numpy() for name in names]
        self.family, self.noise = family, sigma * np.stack(noise)
        options = ScoringOptions(batch_size=batch_size)
        nothing = np.zeros((1, *shape), np.uint8)
        self.scorer = Scorer(nothing, scale=scale, model=model, num_classes=num_classes, options=options, device=device)

    def ask(self, images: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """Predicted probabilities float32 [n, members, classes] of test images uint8 [n,C,H,W].

        A member without a fitted network gives all classes the same and so votes class 0.
        """
        self.scorer.show(images)
        scores = self.scorer.score(self.family, -self.noise, np.ones_like(self.noise), progress).scores
        odds = np.exp(scores - scores.max(2, keepdims=True))
        return odds / odds.sum(2, keepdims=True)
