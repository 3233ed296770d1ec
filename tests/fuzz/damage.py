"""Damage to files that were whole: blindly to their bytes, or below what protects these (checksums, compression)."""

import gzip
import io
import struct
import zipfile
import zlib
from random import Random

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


def damaged(kind: str, content: bytes, random: Random) -> bytes:
    """The content of a whole file, damaged once to four times; kind: its suffix, which says what lies below."""
    for _ in range(random.choice((1, 1, 2, 4))):
        below = BELOW.get(kind)
        try:
            content = below(content, random) if below and random.random() < 0.6 else of_bytes(content, random)
        except (ValueError, LookupError, struct.error, zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError):
            content = of_bytes(content, random)  # no longer whole enough to be taken apart
        except NotImplementedError:
            content = of_bytes(content, random)
    return content[:MOST]


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


BELOW = {".npz": _zip, ".pth": _zip, ".npy": _npy, ".gz": _gzip, ".png": _png, ".safetensors": _safetensors}
