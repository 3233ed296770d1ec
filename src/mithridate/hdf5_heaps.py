"""Damaged texts in HDF5 files, over which the HDF5 library never ends."""

import mmap
from pathlib import Path

from mithridate.errors import InputError

HEAP = b"GCOL\x01\0\0\0"  # what a global heap begins with


def check_heaps(path: str | Path) -> None:
    """That the parts of the file's global heaps, where texts of variable length lie, add up (HDF5 specification,
    III.E): the HDF5 library never comes to the end of some that do not."""
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = data.find(HEAP)
        while place >= 0:
            end, part = place + int.from_bytes(data[place + 8 : place + 16], "little"), place + 16
            while part + 16 <= end <= len(data):
                taken = int.from_bytes(data[part + 8 : part + 16], "little")
                if data[part : part + 2] != b"\0\0":  # a text; else what is free, with its header
                    taken = 16 + -(-taken // 8) * 8
                part = part + taken if taken >= 16 else end + 1
            if not end - 16 < part <= end <= len(data):
                raise InputError(f"{path} has a damaged heap of texts: copy it again.")
            place = data.find(HEAP, end)
