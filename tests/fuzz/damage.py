"""Damage to files that were whole: blindly to their bytes, or below what protects these (checksums, compression)."""

import gzip
import hashlib
import io
import math
import re
import zipfile
import zlib
from random import Random

import h5py
import numpy as np

from mithridate.checksums import BLANK, BLOCK, MARK, seal_weights

INTERESTING = (
    0,
    1,
    2,
    7,
    127,
    128,
    255,
    256,
    32767,
    65535,
    1 << 31,
    (1 << 31) - 1,
    (1 << 32) - 1,
    1 << 40,
    (1 << 63) - 1,
)
MOST = 1 << 20  # bytes of a damaged file


def damaged(kind: str, content: bytes, random: Random, whole: bool = True) -> bytes:
    """The content of a file, damaged once to four times; kind: its suffix, which says what lies below; whole: whether it
    was whole before (the HDF5 library is asked to change no other)."""
    for _ in range(random.choice((1, 1, 2, 4))):
        below = BELOW.get(kind) if whole or kind != ".h5" else None
        try:
            content = below(content, random) if below and random.random() < 0.6 else of_bytes(content, random)
        except Exception:  # no longer whole enough to be taken apart
            content = of_bytes(content, random)
        whole = False
    return content[:MOST]


def sealed(content: bytes) -> bytes:
    """With the checksum, where there was one, of what it is now: whoever makes a file on purpose does that too."""
    if content.startswith(MARK):
        return MARK + hashlib.sha256(content[BLOCK:]).hexdigest().encode() + content[len(MARK) + len(BLANK) :]
    known = re.search(rb'checksum\\": \\"([0-9a-f]{64})', content[: 1 << 16])
    return seal_weights(content[: known.start(1)] + BLANK.encode() + content[known.end(1) :]) if known else content


def of_bytes(content: bytes, random: Random) -> bytes:
    """Cut, flip, overwrite with a telling number, double, remove, swap, or replace a digit of a text."""
    if not content:
        return random.randbytes(16)
    place, length = random.randrange(len(content)), random.choice((1, 2, 4, 8, 16, 100, 1000))
    changed = bytearray(content)
    match random.randrange(8):
        case 0:
            return content[:place]
        case 1:
            for _ in range(random.choice((1, 2, 8))):
                changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
        case 2:
            size = random.choice((1, 2, 4, 8))
            number = random.choice(INTERESTING) % (1 << 8 * size)
            changed[place : place + size] = number.to_bytes(size, random.choice(("little", "big")))
        case 3:
            changed[place:place] = content[place : place + length]
        case 4:
            del changed[place : place + length]
        case 5:
            other = random.randrange(len(content))
            changed[place : place + length] = content[other : other + length]
        case 6:
            changed[place : place + length] = random.randbytes(length)
        case 7:
            digits = [i for i, byte in enumerate(content) if 48 <= byte <= 57]
            if digits:
                at = random.choice(digits)
                changed[at : at + 1] = random.choice((b"0", b"9", b"-1", b"99999999", b"1e9", b".", b"x"))
    return bytes(changed)


def _zip(content: bytes, random: Random) -> bytes:
    """Damage within one member of an archive, which is packed again; or a member that is missing, doubled or renamed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at = random.randrange(len(members))
    name, data = members[at]
    match random.randrange(6):
        case 0:
            del members[at]
        case 1:
            members.append((name, data))
        case 2:
            members[at] = (random.choice(members)[0], data)
        case _:
            members[at] = (name, _npy(data, random) if random.random() < 0.7 else of_bytes(data, random))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def _npy(content: bytes, random: Random) -> bytes:
    """Another header of a NumPy array, of the right length."""
    if content[:6] != b"\x93NUMPY":
        return of_bytes(content, random)
    end = 10 + int.from_bytes(content[8:10], "little")
    header = content[10:end].rstrip()
    kinds = (
        b"'|O'",
        b"'<f8'",
        b"'<i8'",
        b"'|u1'",
        b"'<U3'",
        b"'|S5'",
        b"'<M8[s]'",
        b"'<c16'",
        b"'|b1'",
        b"[('a', '<f4')]",
        b"'>f4'",
        b"'|V8'",
        b"'<f2'",
    )
    start = header.find(b"'descr': ") + 9
    stop = header.find(b",", start)
    match random.randrange(4):
        case 0:
            header = header[:start] + random.choice(kinds) + header[stop:]
        case 1:
            shapes = (
                b"()",
                b"(0,)",
                b"(1,)",
                b"(-1, 3)",
                b"(99999999999, 9999999)",
                b"(2, 2, 2, 2, 2)",
                b"(3, 0, 4)",
                b"3",
                b"(True, 2)",
                b"None",
                b"(1,) * 9",
            )
            header = header[: header.find(b"'shape': ") + 9] + random.choice(shapes) + b", }"
        case 2:
            header = header.replace(b"False", b"True")
        case 3:
            header = of_bytes(header, random)
    header += b"\n"
    return content[:8] + len(header).to_bytes(2, "little")[:2] + header + content[end:]


def _gzip(content: bytes, random: Random) -> bytes:
    return gzip.compress(of_bytes(gzip.decompress(content), random))


def _png(content: bytes, random: Random) -> bytes:
    """Damage to one chunk, whose checksum is made anew."""
    chunks, place = [], 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    at = random.randrange(len(chunks))
    name, data = chunks[at]
    match random.randrange(4):
        case 0:
            chunks.insert(random.randrange(len(chunks)), (name, data))
        case 1:
            kinds = (b"PLTE", b"tRNS", b"acTL", b"eXIf", b"iCCP", b"zTXt", b"iTXt", b"gAMA", b"fcTL", b"fdAT")
            chunks.insert(1, (random.choice(kinds), random.randbytes(random.choice((0, 1, 8, 26, 99)))))
        case _:
            chunks[at] = (name, of_bytes(data, random))
    packed = (len(d).to_bytes(4, "big") + n + d + zlib.crc32(n + d).to_bytes(4, "big") for n, d in chunks)
    return content[:8] + b"".join(packed)


def _safetensors(content: bytes, random: Random) -> bytes:
    """Damage to the header, whose length is made to fit."""
    length = int.from_bytes(content[:8], "little")
    header = of_bytes(content[8 : 8 + length], random)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def _hdf5(content: bytes, random: Random) -> bytes:
    """Something else in the place of a data set, a group or an attribute."""
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "a") as file:
        names: list[str] = []
        file.visit(names.append)
        name = random.choice(names)
        owner = file[random.choice(["/", *names])]
        if len(owner.attrs) and random.random() < 0.5:
            key = random.choice(list(owner.attrs))
            del owner.attrs[key]
            if value := random.choice(ATTRIBUTES):
                owner.attrs[key] = value[0]
        elif isinstance(file[name], h5py.Dataset) and random.random() < 0.6:
            old = file[name][()]
            del file[name]
            _dataset(file, name, np.atleast_1d(old), random)
        else:
            parent = file[name].parent
            del file[name]
            links = [
                h5py.SoftLink(random.choice(names)),
                h5py.SoftLink("/"),
                h5py.ExternalLink("x.h5", "/"),
                None,
                parent,
            ]
            if (link := random.choice(links)) is not None:
                parent[name.rsplit("/", 1)[-1]] = link
    return buffer.getvalue()


def _dataset(file: h5py.File, name: str, old: np.ndarray, random: Random) -> None:
    """Another type, another shape, or the same values in chunks of which one holds something else."""
    match random.randrange(4):
        case 0:
            kind = random.choice(
                (
                    "f2",
                    "f4",
                    ">f8",
                    "i1",
                    "u8",
                    "?",
                    "c8",
                    "S3",
                    h5py.string_dtype(),
                    h5py.vlen_dtype("i4"),
                    [("a", "f4")],
                )
            )
            file.create_dataset(name, old.shape, kind)
        case 1:
            shape = random.choice(
                ((), (0,), (1,), old.shape[1:], (*old.shape, 1), (*old.shape[:-1], old.shape[-1] + 1), old.shape[::-1])
            )
            file.create_dataset(name, data=np.resize(old, shape))
        case 2:
            file.create_dataset(name, (1 << 40,), old.dtype, chunks=(1 << 12,))
        case _:
            how = random.choice(
                (
                    {},
                    {"compression": "gzip"},
                    {"compression": "gzip", "shuffle": True},
                    {"fletcher32": True},
                    {"compression": "lzf"},
                )
            )
            data = file.create_dataset(name, data=old, chunks=old.shape, **how)
            chunk = random.choice(
                (
                    b"x",
                    zlib.compress(b"ab"),
                    zlib.compress(bytes(1 << 20)),
                    random.randbytes(99),
                    zlib.compress(old.tobytes())[:-3],
                )
            )
            if how:
                data.id.write_direct_chunk((0,) * old.ndim, chunk)


LONG = "x" * 70_000
ATTRIBUTES = [
    None,
    [0],
    [-1],
    [math.nan],
    [2**63 - 1],
    ["x"],
    [""],
    [["a", "b"]],
    [np.arange(9)],
    [np.array([b"../..", b"/"])],
    [h5py.Empty("f4")],
]
ATTRIBUTES += [
    ["/"],
    [["."] * 3],
    [["conv_1"] * 3],
    [np.array([b"a"] * 2000)],
    ["{}"],
    ['{"config": []}'],
    ["[" * 9000],
    [LONG[:60_000]],
    [True],
    [1j],
]


BELOW = {
    ".h5": _hdf5,
    ".npz": _zip,
    ".pth": _zip,
    ".npy": _npy,
    ".gz": _gzip,
    ".png": _png,
    ".safetensors": _safetensors,
}
