"""What a reader does in Snakemake's report: opens categories, looks at pictures and tables, flips switches."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PATIENCE = 10  # seconds
GENERAL = {"Workflow", "Statistics", "About"}


def until(true: Callable[[], Any]) -> Any:
    """What `true` returns as soon as that is something. Fails after PATIENCE."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {PATIENCE} s in vain")


class Reader:
    def __init__(self, driver: Any, page: Path) -> None:
        self.driver = driver
        driver.get(page.as_uri())
        until(self.menu)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def menu(self) -> list[str]:
        """The folders that the menu on the left offers."""
        return [item.text for item in self.all("nav ul a span") if item.text not in GENERAL]

    def click(self, text: str) -> None:
        """Click the entry or breadcrumb with this text."""
        quoted = f'"{text}"'
        self.driver.find_element("xpath", f"//nav//a[normalize-space()={quoted}]").click()

    def home(self) -> None:
        self.click("Results")
        until(lambda: len(self.menu()) > 1)

    def places(self) -> Iterator[tuple[str, str]]:
        """Goes to every category and subcategory, and says where it is."""
        for category in self.menu():
            self.click(category)
            inner = [] if self.rows() else self.menu()
            for subcategory in inner or [""]:
                if subcategory:
                    self.click(subcategory)
                assert self.rows(), (category, subcategory)
                yield category, subcategory
                if subcategory:
                    self.click(category)
            self.home()

    def rows(self) -> list[str]:
        """The results in the list on the left."""
        return [row.text.replace("\n", ", ") for row in self.all("nav table tbody tr")]

    def look(self, row: int) -> Any:
        """Open a result by its eye: the picture or the frame with a page, when it has been loaded."""
        self.all("nav table tbody tr")[row].find_elements("css selector", "a")[0].click()
        return until(self.shown)

    def shown(self) -> Any:
        for picture in self.all("#app > div > div img"):
            if self.driver.execute_script("return arguments[0].complete && arguments[0].naturalWidth > 0", picture):
                return picture
        frames = self.all("#app > div > div iframe")
        return frames[0] if frames else None

    def caption(self, row: int) -> str:
        """The text behind a result's i; goes back to the list."""
        before = self.rows()
        self.all("nav table tbody tr")[row].find_elements("css selector", "a")[1].click()
        text = until(lambda: [item.text for item in self.all("nav li.prose")])[0]
        self.all("nav ol a")[-1].click()
        until(lambda: self.rows() == before)
        return text

    def cells(self, column: int) -> list[str]:
        """A column of the table in the frame that is open."""
        return [cell.get_attribute("data-value") for cell in self.all(f"tbody td:nth-child({column + 1})")]
