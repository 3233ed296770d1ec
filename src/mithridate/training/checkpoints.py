"""Finished members on disk, so that an interrupted slice goes on where it stopped.

A checkpoint is named by a digest of everything that determines the member's weights: the subset's content, the
recipe, the random streams' key, the code, the versions and the processor's instruction set. Anything else trains anew.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mithridate.artefacts import read_safetensors, write_safetensors
from mithridate.closure import closure, digest, model_file
from mithridate.errors import InputError
from mithridate.training.recipe import Recipe
from mithridate.training.snapshot import machine
from mithridate.training.subset import Subset


@dataclass(frozen=True)
class Trained:
    """A finished member: parameters and buffers by name, how it ended, and its last training loss."""

    tensors: dict[str, np.ndarray]
    flag: int
    loss: float


class Checkpoints:
    """A folder of finished members of one recipe; None as folder keeps nothing."""

    def __init__(self, folder: Path | None, recipe: Recipe) -> None:
        self.folder = folder
        code = digest([*closure(Path(__file__).with_name("family.py")), *model_file(recipe.model)])
        self._common = json.dumps([recipe.describe(), code, *machine(recipe.device)], sort_keys=True)

    def key(self, subset: Subset, boost: int) -> str:
        """The digest of all that the member trained on this subset depends on."""
        images = np.asarray(subset.images)
        text = hashlib.sha256(f"{self._common} {subset.number} {boost} {images.shape} {images.dtype}".encode())
        text.update(np.ascontiguousarray(images).data)
        text.update(subset.labels.astype(np.int64).tobytes())
        text.update(np.concatenate([subset.mean, subset.std]).astype(np.float64).tobytes())
        return text.hexdigest()

    def get(self, key: str) -> Trained | None:
        """The finished member, or None where there is none or its file is damaged."""
        if self.folder is None or not self._path(key).exists():
            return None
        try:
            tensors, metadata = read_safetensors(self._path(key))
            return Trained(tensors, int(metadata["flag"]), float(metadata["loss"]))
        except (InputError, KeyError, ValueError, TypeError):
            return None

    def put(self, key: str, trained: Trained) -> None:
        if self.folder is not None:
            metadata = {"flag": trained.flag, "loss": str(trained.loss)}
            write_safetensors(self._path(key), trained.tensors, metadata, {})

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / key[:2] / f"{key}.safetensors"
