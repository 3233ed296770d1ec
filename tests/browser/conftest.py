"""A report of a tiny real run, and a browser that opens it. Without Chromium or selenium (`pip install -e '.[browser]'`) these
tests are skipped; where MITHRIDATE_BROWSER=1 is set they fail instead."""

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.workflow.conftest import ROOT, Project, checkout, settings

RUN = {  # pictures of all kinds, switches, tables; seconds of training
    "dpa": "{k: [4], d: [1], methods: [dpa, runoff], training: {steps: 4, batch_size: 8, strategy: loop}}",
    "attacks": "[{poisoned: [0, 2], seeds: 1, d: [1]}]",
    "rab": "{models: 4, training: {epochs: 1}, attacks: [{poisoned: [2], seeds: 1}]}",
    "report": "{beside: {mnist: mnist}}",
}
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1500,950",
]  # fmt: skip


def missing() -> str:
    """What these tests lack; empty where nothing is."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed (pip install -e '.[browser]')"
    programs = ("chromium", "chromedriver")
    return ", ".join(f"no {name} on PATH" for name in programs if shutil.which(name) is None)


@pytest.fixture(scope="session")
def able() -> None:
    if reason := missing():
        (pytest.fail if os.environ.get("MITHRIDATE_BROWSER") == "1" else pytest.skip)(reason)


@pytest.fixture(scope="session")
def run(able, tmp_path_factory) -> Project:
    """A finished tiny run with its report, as one page and as an archive."""
    made = checkout(tmp_path_factory.mktemp("browser") / "project")
    shutil.copytree(ROOT / "docs" / "results" / "mnist_reduced", made.folder / "mnist")
    done = made.run("--cores", "2", config=settings(RUN))
    assert done.returncode == 0, done.stdout
    for name in ("report.html", "report.zip"):
        done = made.run("--report", f"results/{name}", config=settings(RUN))
        assert done.returncode == 0, done.stdout
    with zipfile.ZipFile(made.path("report.zip")) as archive:
        archive.extractall(made.folder / "unpacked")
    return made


@dataclass
class Browser:
    driver: Any

    def forget(self) -> None:
        self.driver.get("about:blank")
        self.errors(), self.requested()

    def errors(self) -> list[str]:
        """The console's errors since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requested(self) -> list[str]:
        """Every address that the page, or a page that it shows in a frame, asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


@pytest.fixture(scope="session")
def chromium(able, tmp_path_factory) -> Iterator[Browser]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


@pytest.fixture
def browser(chromium) -> Iterator[Browser]:
    """The browser; afterwards the page must not have complained, nor have asked for anything beyond this machine."""
    chromium.forget()
    yield chromium
    assert chromium.errors() == []
    requested = chromium.requested()
    assert requested
    assert beyond(requested) == []


def beyond(urls: list[str]) -> list[str]:
    """Those that leave the machine."""
    return [url for url in urls if not url.startswith(("file:", "data:"))]
