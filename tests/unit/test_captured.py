"""Which steps are captured and which replayed, with a pretended CUDA graph; on a card: test_gpu.py."""

import pytest
import torch

from mithridate.training.captured import WARM_UP, WORTH, CapturedSteps
from mithridate.training.randomness import Randomness


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """What is asked of the pretended card."""
    made: list[str] = []

    class Graph:
        def capture_begin(self, pool):
            made.append("begin")

        def capture_end(self):
            made.append("end")

        def replay(self):
            made.append("replay")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    return made


def test_sizes_that_come_often_are_captured_once_and_replayed(calls):
    steps = CapturedSteps()

    def step(size: int) -> None:
        calls.append(f"step {size}")

    steps.record(step, [32] * WORTH + [5] * (WORTH - 1) + [7] * WORTH)
    assert calls == [*["step 32"] * WARM_UP, "begin", "step 32", "end", "step 7", "begin", "step 7", "end"]
    calls.clear()
    steps.record(step, [32] * WORTH + [5] * WORTH)
    assert calls == ["step 5", "begin", "step 5", "end"], "what is captured already is not again"
    calls.clear()
    for size in (32, 7, 9):
        steps.run(step, size)
    assert calls == ["replay", "replay", "step 9"]


def test_a_drawn_number_is_noticed_and_put_back():
    with torch.random.fork_rng([]):
        before = Randomness([])
        assert Randomness([]).same(before)
        drawn = torch.rand(3)
        assert not Randomness([]).same(before)
        before.restore()
        assert torch.equal(torch.rand(3), drawn)
