"""Tests marked `realdata` need the folder that the environment variable MITHRIDATE_DATA names."""

import os
from pathlib import Path

import pytest

VARIABLE = "MITHRIDATE_DATA"


def pytest_runtest_setup(item):
    if item.get_closest_marker("realdata") and not Path(os.environ.get(VARIABLE) or "/nowhere").is_dir():
        pytest.skip(f"{VARIABLE} names no folder with mnist.npz, cifar10.npz and MNIST/raw")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with mnist.npz, cifar10.npz and MNIST/raw; for tests marked `realdata`."""
    return Path(os.environ[VARIABLE])
