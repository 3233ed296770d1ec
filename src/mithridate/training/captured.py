"""Steps as CUDA graphs: captured once for each batch size, replayed without PyTorch's overhead for each kernel."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import torch

from mithridate.errors import InputError

Step = Callable[[int], None]
WARM_UP = 3  # plain steps before the first capture
WORTH = 8  # steps of one batch size from which on capturing pays


class CapturedSteps:
    """The steps of one trainer: step(size) runs one on the first `size` images of a batch, and reads and writes buffers
    that stay where they are. Graphs are kept, at most as many as a batch has images."""

    def __init__(self) -> None:
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, step: Step, sizes: Sequence[int]) -> None:
        """Capture, in the current stream, the sizes that come often. This spoils the state that a step changes."""
        for size, count in Counter(sizes).items():
            if count >= WORTH and size not in self._graphs:
                for _ in range(1 if self._graphs else WARM_UP):
                    step(size)
                graph = torch.cuda.CUDAGraph()
                graph.capture_begin(pool=self._pool)
                try:
                    step(size)
                except RuntimeError as error:
                    with suppress(RuntimeError):
                        graph.capture_end()
                    raise InputError(
                        "the model cannot be captured, because it waits for the card or copies from it in a step"
                        f" ({str(error).splitlines()[0]}): set training.cuda_graphs: false, or mend it."
                    ) from error
                graph.capture_end()
                self._graphs[size] = graph

    def run(self, step: Step, size: int) -> None:
        if (graph := self._graphs.get(size)) is not None:
            graph.replay()
        else:
            step(size)
