"""Noise is a function of its whole name."""

import numpy as np
import pytest
import torch

from mithridate.noise import gaussian
from mithridate.streams import Stream


def test_noise_is_standard_normal_and_named():
    drawn = gaussian((200, 300), "a", 1)
    assert drawn.dtype == torch.float32
    assert abs(float(drawn.mean())) < 0.01
    assert abs(float(drawn.std()) - 1) < 0.01
    assert abs(float((drawn**4).mean()) - 3) < 0.1
    assert torch.equal(gaussian((200, 300), "a", 1), drawn)
    assert not torch.equal(gaussian((200, 300), "a", 2), drawn)
    torch.manual_seed(0)
    before = torch.rand(1)
    torch.manual_seed(0)
    gaussian((3,), "a")
    assert torch.equal(torch.rand(1), before)


PAIRS = [((326, 15), (137, 130)), ((528, 124), (493, 29)), ((556, 76), (337, 47)), ((758, 101), (138, 64))]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_names_that_share_the_low_half_of_a_seed_have_different_noise(one, other):
    """PyTorch's CPU generator takes 32 bits of a seed, in which these (network, block) of a published run collide."""
    low = [Stream("gaussian", "rab", 0, *name).seed() & 0xFFFFFFFF for name in (one, other)]
    assert low[0] == low[1]
    assert not np.array_equal(gaussian((50,), "rab", 0, *one).numpy(), gaussian((50,), "rab", 0, *other).numpy())
