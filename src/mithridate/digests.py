"""Digests of artefacts: equal where what they hold is equal, whatever made them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mithridate.artefacts import PROVENANCE, open_hdf5, plain, read_safetensors
from mithridate.errors import InputError
from mithridate.hdf5_guard import check_held, little_memory
from mithridate.hdf5_heaps import check_heaps

DEEPEST, MOST_ARRAYS = 10, 10_000  # of an artefact of this workflow


def digest(path: str | Path) -> str:
    """SHA-256 of what an HDF5 or safetensors artefact holds but for its provenance, so that equal results have equal
    digests. Raises InputError for a missing, damaged or foreign file, in which nothing is trusted."""
    arrays: dict[str, Any] = {}
    if str(path).endswith(".safetensors"):
        arrays, notes = read_safetensors(path)
    else:
        with open_hdf5(path) as file:
            check_heaps(path)
            file.visititems(lambda name, item: _note(path, arrays, name, item))
            with little_memory():
                notes = plain(file.attrs)
    try:
        found = hashlib.sha256(json.dumps({**notes, PROVENANCE: None}, sort_keys=True).encode())
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            found.update(array.reshape(-1).view(np.uint8).data)
    except (TypeError, ValueError) as error:  # names, values or types that no artefact has
        raise InputError(f"{path} is no artefact of this workflow: delete it and make it again.") from error
    return found.hexdigest()


def _note(path: str | Path, arrays: dict[str, Any], name: str, item: h5py.Dataset | h5py.Group) -> None:
    if name.count("/") > DEEPEST or len(arrays) > MOST_ARRAYS:
        raise InputError(f"{path} is no artefact of this workflow: delete it and make it again.")
    if isinstance(item, h5py.Dataset):
        check_held(path, item)
        arrays[name] = item[()]
