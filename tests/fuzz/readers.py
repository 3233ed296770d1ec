"""Every reader of files that a user brings, with whole files of its kind to begin from."""

import io
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from mithridate.certify.streaming import certify_blocks
from mithridate.data.faces import load_image, open_faces
from mithridate.data.files import decode, load_npz
from mithridate.data.splits import read_split
from mithridate.errors import InputError
from mithridate.foreign import open_foreign
from mithridate.standalone import default_methods
from tests.fuzz.damage import sealed

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.integers(0, 256, (6, 5, 4), dtype=np.uint8), np.arange(6) % 3
NPZ = {"x_train": X, "y_train": Y, "x_test": X[:3], "y_test": Y[:3]}
SCORES = {
    "scores": RANDOM.random((6, 4, 3), np.float32),
    "labels": Y,
    "subset_ids": np.arange(4),
    "flags": np.zeros(4, np.int64),
}
VOTES = {"votes": RANDOM.integers(0, 3, (6, 4)), "labels": Y, "shifts": np.array([0, 1])}


@dataclass(frozen=True)
class Reader:
    """read: what a user has done with a file at that path; whole: contents that it reads; beside: other files that it
    needs in the folder."""

    file: str
    read: Callable[[Path], object]
    whole: Callable[[], list[bytes]]
    beside: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)

    @property
    def suffix(self) -> str:
        return Path(self.file).suffix


def check(reader: Reader, folder: Path, content: bytes) -> str | None:
    """Read a file of this content: what the reader refuses it with, None where it is read. Raises AssertionError where
    that is not one sentence that names the file (the key, in a configuration; the damaged part, in a folder), and whatever the reader raises besides InputError."""
    path = folder / reader.file
    path.write_bytes(sealed(content))
    for name, make in reader.beside.items():
        if not (folder / name).exists():
            (folder / name).write_bytes(make())
    try:
        reader.read(path)
    except InputError as error:
        message = str(error)
        assert str(folder) in message or message.startswith("configuration"), message
        assert message.isprintable(), message
        assert len(message) < 1500, message
        return message
    return None


def _saved(write: Callable[[Path], object], name: str = "file") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def _npz(arrays: Mapping[str, np.ndarray], save: Callable[..., None] = np.savez) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _hdf5(arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any] | None = None, **how: Any) -> bytes:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array, **how)
            file.attrs.update(attributes or {})

    return _saved(write)


def _picture(kind: str, mode: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    shape = {
        "L": (9, 7),
        "1": (9, 7),
        "P": (9, 7),
        "RGB": (9, 7, 3),
        "RGBA": (9, 7, 4),
        "CMYK": (9, 7, 4),
        "LA": (9, 7, 2),
    }
    values = np.random.default_rng(1).integers(0, 256, shape[mode], dtype=np.uint8)
    image = (
        Image.fromarray(values, "RGB" if mode == "RGB" else None).convert(mode)
        if mode in ("P", "1", "CMYK")
        else Image.fromarray(values)
    )
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def _pictures() -> list[bytes]:
    kinds = [("PNG", mode) for mode in ("L", "1", "P", "RGB", "RGBA", "LA")] + [("JPEG", "L"), ("JPEG", "RGB")]
    kinds += [("BMP", "RGB"), ("PPM", "RGB"), ("GIF", "P"), ("TIFF", "RGB"), ("TIFF", "1"), ("WEBP", "RGB")]
    return [_picture(kind, mode) for kind, mode in kinds] + [_picture("TIFF", "RGB", compression="tiff_lzw")]


def _faces() -> list[bytes]:
    data = np.repeat(X[:, None], 3, 1)
    plain = {"data": data, "label": Y}
    return [
        _hdf5({**plain, "true_label": (Y + 1) % 3}),
        _hdf5({"data": data.astype(np.float32), "label": Y[:, None].astype(float)}, compression="gzip", shuffle=True),
        _hdf5(plain, chunks=True, maxshape=None, fletcher32=True),
    ]


def _read_faces(path: Path) -> None:
    with open_faces(path) as faces:
        faces.images(slice(None))


def _read_scores(path: Path) -> None:
    with open_foreign(path) as given:
        how = {"subset_ids": given.subset_ids, "shifts": given.shifts, "where": str(path)}
        certify_blocks(given.blocks(), given.labels, default_methods(given), **how)


def _tensors() -> list[bytes]:
    import torch

    made = [{name: torch.from_numpy(array) for name, array in arrays.items()} for arrays in (SCORES, VOTES)]
    made[0]["scores"] = made[0]["scores"].bfloat16()
    return [_saved(lambda path, one=one: torch.save(one, path)) for one in made] + [
        _saved(lambda path: torch.save(made[1], path, _use_new_zipfile_serialization=False))
    ]


def _deepids() -> list[bytes]:
    from tests.unit.test_keras_hdf5 import SMALL, deepid_config, keras_arrays, keras_file

    arrays, stages = keras_arrays(*SMALL)
    config = deepid_config(*SMALL, stages)
    return [
        _saved(lambda path: keras_file(path, arrays, config)),
        _saved(lambda path: keras_file(path, arrays, config, cut=3)),
    ]


def _read_deepid(path: Path) -> None:
    from mithridate.repair.keras_hdf5 import load_deepid

    load_deepid(path)


def _sequentials() -> list[bytes]:
    from tests.unit.test_keras_hdf5 import conv, dense, keras_file, max_pool, other

    random = np.random.default_rng(0)
    shapes = {"a": (3, 3, 1, 2), "b": (18, 4), "c": (4, 3)}
    arrays = {
        name: (random.normal(size=s).astype("f4"), random.normal(size=s[-1]).astype("f4")) for name, s in shapes.items()
    }
    layers = [
        other("InputLayer", "in", batch_input_shape=[None, 8, 8, 1]),
        conv("a", 2, 3),
        max_pool("p"),
        other("Flatten", "f"),
    ]
    layers += [dense("b", 4, "relu"), other("Dropout", "d", rate=0.5), dense("c", 3, "softmax")]
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}
    return [_saved(lambda path: keras_file(path, arrays, config))]


def _read_sequential(path: Path) -> None:
    from mithridate.repair.keras_sequential import load_sequential

    load_sequential(path)


@cache
def _goodnet() -> dict[str, bytes]:
    """The files of a delivered network, by name."""
    from mithridate.models.registry import builder, initialise
    from mithridate.options.badnet import StripOptions
    from mithridate.repair.delivered import LABEL, PARTS, REPAIRED, STRIP, SUSPICIOUS, write_label
    from mithridate.repair.detector import make_detector, save_detector
    from mithridate.repair.networks import Kind, state, write_networks
    from mithridate.repair.split import Split
    from mithridate.streams import Stream

    kind, images = Kind("deepid", (1, 8, 8), 3), RANDOM.random((12, 1, 8, 8), np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in (SUSPICIOUS, REPAIRED):
            network = initialise(builder("deepid"), (1, 8, 8), 3, Stream("fuzz", part))
            write_networks(folder / part, {"": state(network)}, kind, {})
        split = Split(np.arange(0), np.arange(6), np.arange(6, 12))
        save_detector(
            folder / STRIP, make_detector(network, images, split, StripOptions(overlays=2, frr=0.5), seed=0), {}
        )
        write_label(folder / LABEL, [folder / part for part in PARTS], "combination")
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def _part(name: str) -> Callable[[], bytes]:
    return lambda: _goodnet()[name]


def _read_network(path: Path) -> None:
    from mithridate.repair.networks import read_networks

    read_networks(path)


def _read_goodnet(path: Path) -> None:
    from mithridate.repair.delivered import GoodNet

    GoodNet(path.parent)


def _read_detector(path: Path) -> None:
    from mithridate.digests import digest
    from mithridate.repair.detector import load_detector
    from mithridate.repair.networks import read_network

    digest(path)
    load_detector(path, read_network(path.parent / "suspicious.safetensors")[0])


def _read_picture(path: Path) -> None:
    decode([path], None)
    decode([path], (4, 4), 3)


def _read_face(path: Path) -> None:
    load_image(path, (3, 8, 8))


def _read_config(path: Path) -> None:
    from mithridate.options.reading import check

    check([path])


def _configs() -> list[bytes]:
    nested = {
        "dpa": {"k": [5, 10], "training": {"epochs": 2, "steps": None}},
        "attacks": [{"trigger": "patch"}],
        "seed": 3,
    }
    return [
        b"# overlay\nseed: 1\ndpa:\n  k: [5, 10]\n  d: &d [1]\nattacks:\n  - trigger: patch\n    size: 2\n    d: *d\n",
        json.dumps(nested).encode(),
    ]


READERS = {
    "npz": Reader("mine.npz", lambda path: load_npz("mine", path), lambda: [_npz(NPZ), _npz(NPZ, np.savez_compressed)]),
    "npy_images": Reader(
        "X_train.npy",
        lambda path: read_split(path.parent, "train"),
        lambda: [_npy(X / np.float32(255)), _npy(X), _npy(np.asfortranarray(X[..., None]))],
        {"Y_train.npy": lambda: _npy(Y)},
    ),
    "npy_labels": Reader(
        "Y_train.npy",
        lambda path: read_split(path.parent, "train"),
        lambda: [_npy(Y), _npy(np.eye(3, dtype=np.float32)[Y])],
        {"X_train.npy": lambda: _npy(X)},
    ),
    "pictures": Reader("face.png", _read_picture, _pictures),
    "face": Reader("face.png", _read_face, lambda: _pictures()[:8]),
    "faces": Reader("faces.h5", _read_faces, _faces),
    "scores_h5": Reader(
        "scores.h5", _read_scores, lambda: [_hdf5(SCORES, {"seeds": 2}, compression="gzip"), _hdf5(SCORES), _hdf5(VOTES, {"d": 2})]
    ),
    "scores_npz": Reader("scores.npz", _read_scores, lambda: [_npz(SCORES), _npz(VOTES, np.savez_compressed)]),
    "scores_pth": Reader("scores.pth", _read_scores, _tensors),
    "deepid": Reader("net.h5", _read_deepid, _deepids),
    "sequential": Reader("net.h5", _read_sequential, _sequentials),
    "network": Reader("net.safetensors", _read_network, lambda: [_part("suspicious.safetensors")()]),
    "detector": Reader(
        "strip.h5", _read_detector, lambda: [_part("strip.h5")()], {"suspicious.safetensors": _part("suspicious.safetensors")}
    ),
    "goodnet": Reader(
        "goodnet.json",
        _read_goodnet,
        lambda: [_part("goodnet.json")()],
        {name: _part(name) for name in ("suspicious.safetensors", "repaired.safetensors", "strip.h5")},
    ),
    "config": Reader("mine.yaml", _read_config, _configs),
}  # fmt: skip


def fresh_folder() -> Path:
    """Where files are damaged, in memory where the system has such a place."""
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="mithridate-fuzz-", dir=shared if shared.is_dir() else None))


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
