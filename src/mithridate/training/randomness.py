"""The state of PyTorch's generators, on the CPU and on cards, to be kept and put back."""

from collections.abc import Sequence

import torch


class Randomness:
    """The state when it was made."""

    def __init__(self, cards: Sequence[torch.device]) -> None:
        self._cpu, self._cards = torch.get_rng_state(), {card: torch.cuda.get_rng_state(card) for card in cards}

    def restore(self) -> None:
        torch.set_rng_state(self._cpu)
        for card, state in self._cards.items():
            torch.cuda.set_rng_state(state, card)

    def same(self, other: "Randomness") -> bool:
        """Whether no number was drawn between the two."""
        pairs = [(self._cpu, other._cpu), *((state, other._cards[card]) for card, state in self._cards.items())]
        return all(torch.equal(one, another) for one, another in pairs)
