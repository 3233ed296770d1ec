"""The report as a reader meets it: opened from disk and clicked through in a real browser."""

import pandas as pd
import pytest

from tests.browser.conftest import beyond
from tests.browser.reader import Reader, until


@pytest.fixture
def reader(run, browser) -> Reader:
    return Reader(browser.driver, run.path("report.html"))


def test_the_first_page_says_what_was_found_and_run(run, reader):
    text = reader.all("#app .prose")[0].text
    accuracy = pd.read_csv(run.path("dpa_summary.csv")).set_index("method").loc["dpa", "clean_accuracy"]
    assert f"{100 * accuracy:.1f} %" in text
    assert "1,437 training and 360 test images" in text
    assert "keys differ from the defaults" in text
    counted = [cell.text for cell in reader.all("#app .prose table.findings td")]
    assert "Partition aggregation" in counted
    title = reader.all("#app .prose h1")[0]
    assert reader.driver.execute_script("return arguments[0].getBoundingClientRect().top", title) >= 0


def test_everything_opens_and_has_a_caption(run, reader):
    """Every category, subcategory, picture and table; each switch in both positions."""
    seen, sources = set(), set()
    for place in reader.places():
        for position in range(2 if reader.all("nav fieldset") else 1):
            for row, name in enumerate(reader.rows()):
                reader.flip(position)
                shown = reader.look(row)
                source = shown.get_attribute("src")
                assert source not in sources, (place, name)
                sources.add(source)
                if shown.tag_name == "iframe":
                    reader.driver.switch_to.frame(shown)
                    assert until(lambda: reader.all("tbody tr")), (place, name)
                    reader.driver.switch_to.default_content()
                else:
                    assert shown.size["width"] > 100, (place, name)
                assert len(reader.caption(row)) > 20, (place, name)
                seen.add((*place, position, name))
    categories = {category for category, *_ in seen}
    assert categories == {"1 Findings", "2 Partition aggregation", "3 Backdoors", "4 RAB", "8 This run"}
    assert len(seen) == reader.driver.execute_script("return Object.keys(results).length")


@pytest.mark.parametrize(
    ("category", "place", "first", "second"),
    [
        ("3 Backdoors", "fourpixel-d1-t0: certified, clean test images", "clean", "poisoned"),
        ("4 RAB", "Certified accuracy", "clean", "triggered"),
        ("2 Partition aggregation", "Tables", "digits", "mnist"),
    ],
)
def test_a_switch_changes_what_is_open(run, reader, category, place, first, second):
    reader.click(category)
    reader.click(place)
    before = reader.look(0).get_attribute("src")
    switches = {label.text: label for label in reader.all("nav fieldset label")}
    assert list(switches) == [first, second]
    switches[second].click()
    until(lambda: reader.shown() and reader.shown().get_attribute("src") != before)
    switches[first].click()
    until(lambda: reader.shown() and reader.shown().get_attribute("src") == before)


@pytest.mark.parametrize("form", ["report.html", "unpacked/report/report.html"])
def test_a_table_sorts_by_the_column_that_is_clicked(run, browser, form):
    path = run.path(form) if form == "report.html" else run.folder / form
    reader = Reader(browser.driver, path)
    reader.click("2 Partition aggregation")
    reader.click("Tables")
    reader.driver.switch_to.frame(reader.look(0))
    heads = [head.text for head in until(lambda: reader.all("th button"))]
    column = heads.index("certified_accuracy")
    table = pd.read_csv(run.path("dpa_cert.csv"))["certified_accuracy"]
    assert [float(value) for value in reader.cells(column)] == table.tolist()
    for ascending in (True, False):
        reader.all("th button")[column].click()
        assert [float(value) for value in reader.cells(column)] == sorted(table, reverse=not ascending)
    reader.driver.switch_to.default_content()


def test_pictures_lie_in_the_archive_too(run, browser):
    reader = Reader(browser.driver, run.folder / "unpacked" / "report" / "report.html")
    reader.click("8 This run")
    picture = next(row for row, name in enumerate(reader.rows()) if "picture" in name)
    assert reader.look(picture).get_attribute("src").startswith("file:")


@pytest.mark.parametrize("place", ["page", "data frame", "file frame"])
def test_what_asks_for_more_or_fails_is_seen(chromium, tmp_path, place):
    """That the checks after each test can fail."""
    url = f"http://{place.split()[0]}.invalid/picture.png"
    inner = f"<img src={url}><script>nothing.there()</script>"
    frames = {
        "page": inner,
        "data frame": f"<iframe src='data:text/html,{inner}'></iframe>",
        "file frame": "<iframe src=inner.html></iframe>",
    }
    (tmp_path / "inner.html").write_text(inner)
    (tmp_path / "outer.html").write_text(frames[place])
    chromium.forget()
    chromium.driver.get((tmp_path / "outer.html").as_uri())
    assert until(lambda: beyond(chromium.requested())) == [url]
    assert any("nothing is not defined" in message for message in chromium.errors())
