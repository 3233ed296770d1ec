"""What a reader does in Snakemake's report: opens categories, looks at pictures and tables, flips switches."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PATIENCE = 10  # seconds
STILL = """const style = document.createElement("style");
style.textContent = "* { transition: none !important }";  // a click can miss what slides
document.head.append(style);"""
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
        driver.execute_script(STILL)

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
        before = self.state("renderTrigger")
        self.all("nav table tbody tr")[row].find_elements("css selector", "a")[0].click()
        until(lambda: self.state("renderTrigger") != before)
        return until(self.shown)

    def shown(self) -> Any:
        """The picture or frame that is open now, if it has been loaded."""
        path = self.state("contentPath")
        for element in self.all("#app > div > div img, #app > div > div iframe"):
            loaded = (
                "return arguments[0].tagName === 'IFRAME' || arguments[0].complete && arguments[0].naturalWidth > 0"
            )
            if element.get_dom_attribute("src") == path and self.driver.execute_script(loaded, element):
                return element
        return None

    def state(self, name: str) -> Any:
        """What the page itself says of what it shows."""
        return self.driver.execute_script(f"return app.state.{name}")

    def caption(self, row: int) -> str:
        """The text behind a result's i; goes back to the list, whose switch is then as at first."""
        before = self.rows()
        self.all("nav table tbody tr")[row].find_elements("css selector", "a")[1].click()
        text = until(lambda: [item.text for item in self.all("nav li.prose")])[0]
        self.all("nav ol a")[-2].click()  # the last one is the result itself
        until(lambda: self.rows() == before)
        return text

    def flip(self, position: int) -> None:
        """Put the switch above the list, where there is one, to its first or second value (0, 1)."""
        for label in self.all("nav fieldset label")[position : position + 1]:
            label.click()

    def cells(self, column: int) -> list[str]:
        """A column of the table in the frame that is open."""
        return [cell.get_attribute("data-value") for cell in self.all(f"tbody td:nth-child({column + 1})")]
