"""Named random streams: every random number is a function of a name and a counter, never of global state.

Raw 64-bit words come from Philox (Salmon et al., SC 2011) keyed by SHA-256 of the name; shuffles and uniform
numbers are derived here, so that they do not change with a library's sampling code.
"""

import hashlib

import numpy as np


class Stream:
    """The stream of random numbers that belongs to `name`, e.g. Stream("init", 0, 17, 0)."""

    def __init__(self, *name: str | int) -> None:
        digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))

    def raw(self, *shape: int) -> np.ndarray:
        """uint64 words of the given shape."""
        return self._bits.random_raw(int(np.prod(shape))).reshape(shape)

    def uniform(self, *shape: int) -> np.ndarray:
        """float64 in [0, 1), 53 random bits each."""
        return (self.raw(*shape) >> np.uint64(11)) * 2.0**-53

    def permutations(self, count: int, n: int) -> np.ndarray:
        """`count` independent shuffles of range(n): int64 [count, n]."""
        return np.argsort(self.raw(count, n), axis=1, kind="stable")

    def generator(self) -> np.random.Generator:
        """NumPy's generator on this stream, for numbers that are not derived here."""
        return np.random.Generator(self._bits)

    def seed(self) -> int:
        """A 63-bit seed for another library's generator (of which PyTorch's on the CPU takes the lower 32)."""
        return int(self.raw(1)[0] >> np.uint64(1))
