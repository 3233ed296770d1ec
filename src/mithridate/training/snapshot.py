"""The state of a long computation on disk, so that an interrupted one goes on and ends with the same bits."""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from mithridate import closure
from mithridate.artefacts import read_checked, read_safetensors, write_safetensors
from mithridate.digests import digest
from mithridate.errors import InputError

EVERY = 60.0  # seconds between two states


class Snapshot:
    """One file in a folder, named by a digest of everything that the computation depends on; without a folder, none.

    The state is tensors, which stay where they are, and plain numbers.
    """

    def __init__(self, folder: Path | None = None, key: str = "") -> None:
        self.path = folder / f"{key}.safetensors" if folder else None
        self._next = time.monotonic() + EVERY

    @classmethod
    def of_job(cls, snakemake: Any, folder: Path) -> Self:
        """Of a whole job: named by the contents of its files, its wildcards and parameters (`code` is one) and the
        machine."""
        params = dict(snakemake.params.items())
        known = [dict(snakemake.wildcards.items()), params, [_content(Path(path)) for path in snakemake.input]]
        return cls(folder, name([snakemake.rule, *known, *machine(params["device"])], []))

    def part(self, number: int) -> "Snapshot":
        """That of one part of the computation."""
        return Snapshot(self.path and self.path.parent, f"{self.path.stem}-{number}" if self.path else "")

    def due(self) -> bool:
        """Whether it is time to save the state again."""
        return self.path is not None and time.monotonic() >= self._next

    def save(self, tensors: Mapping[str, Tensor], **numbers: Any) -> None:
        if self.path:
            arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
            write_safetensors(self.path, arrays, numbers, {})
            self._next = time.monotonic() + EVERY

    def remove(self) -> None:
        """Forget it and its parts, when the result is written."""
        if self.path:
            for path in [self.path, *self.path.parent.glob(f"{self.path.stem}-*.safetensors")]:
                path.unlink(missing_ok=True)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """Copy what was saved into the tensors and return the numbers; None, and nothing copied, where nothing whole
        was saved."""
        if not self.path or not self.path.exists():
            return None
        try:
            arrays, numbers = read_safetensors(self.path)
        except InputError:
            return None
        if {key: array.size for key, array in arrays.items()} != {key: one.numel() for key, one in tensors.items()}:
            return None
        for key, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(arrays[key]).view_as(tensor))
        return numbers


def name(known: Any, arrays: Iterable[np.ndarray]) -> str:
    """The digest of plain values and arrays."""
    text = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
    for array in arrays:
        text.update(f"{array.shape} {array.dtype}".encode())
        text.update(np.ascontiguousarray(array).data)
    return text.hexdigest()


def machine(device: str) -> list[str]:
    """What bits depend on besides the work: versions, the processor or card, and how it is prepared."""
    processor = torch.backends.cpu.get_cpu_capability() if device == "cpu" else torch.cuda.get_device_name()
    return [torch.__version__, np.__version__, processor, closure.digest([closure.ROOT / "device.py"])]


def _content(path: Path) -> str:
    return digest(path) if path.suffix in (".h5", ".safetensors") else hashlib.sha256(read_checked(path)).hexdigest()
