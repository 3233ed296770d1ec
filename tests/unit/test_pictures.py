"""Pictures, captions, the sortable page and the summary in words: they say what the tables say."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from mithridate.certify.intervals import dkw_half_width
from mithridate.certify.streaming import certify_blocks
from mithridate.certify.tables import curve, summary
from mithridate.pictures.dpa import base_accuracies, certified_accuracy, partition_sizes, vote_margins
from mithridate.pictures.style import save
from mithridate.sortable import page
from mithridate.streams import Stream
from mithridate.summary import text

N, K, CLASSES, CONFIDENCE = 60, 9, 4, 0.9
LABELS = np.arange(N) % CLASSES
SCORES = Stream("pictures").uniform(N, K, CLASSES) + 0.4 * np.eye(CLASSES)[LABELS][:, None]
CERTIFIED = certify_blocks([SCORES], LABELS, ["dpa", "runoff"])
RUN = {"dataset": "digits", "variant": "clean", "confidence": CONFIDENCE}
SIZES = np.array([5, 0, 7, 6, 6, 6, 0, 9, 6])
MEMBERS = pd.DataFrame({"size": SIZES, "flag": ["fitted", "empty"] + ["fitted"] * 4 + ["empty", "diverged", "fitted"]})
MEMBERS["base_accuracy"] = CERTIFIED.base_accuracy
CURVE = curve(CERTIFIED.rows, k=K, **RUN)
SUMMARY = summary(CERTIFIED.rows, MEMBERS, k=K, **RUN)
WEAK = CERTIFIED.rows.assign(correct=CERTIFIED.rows["correct"] & (CERTIFIED.rows["index"] < 12))


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


PICTURES = {
    "certified_accuracy": lambda: certified_accuracy(CURVE, CONFIDENCE),
    "several_k": lambda: certified_accuracy(pd.concat([CURVE, CURVE.assign(k=25)]), CONFIDENCE),
    "vote_margins": lambda: vote_margins(CERTIFIED.rows, K),
    "partition_sizes": lambda: partition_sizes(MEMBERS),
    "base_accuracies": lambda: base_accuracies(MEMBERS),
}


@pytest.mark.parametrize("name", PICTURES)
def test_equal_tables_give_equal_valid_pictures(tmp_path, name):
    for number in (1, 2):
        save(PICTURES[name](), tmp_path / f"{number}.svg", tmp_path / f"{number}.txt")
    assert (tmp_path / "1.svg").read_bytes() == (tmp_path / "2.svg").read_bytes()
    assert ElementTree.parse(tmp_path / "1.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    caption = (tmp_path / "1.txt").read_text()
    assert caption.endswith(".\n")
    assert caption.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.svg", "1.txt", "2.svg", "2.txt"]


def test_another_table_gives_another_picture(tmp_path):
    save(partition_sizes(MEMBERS), tmp_path / "1.svg", tmp_path / "1.txt")
    save(partition_sizes(MEMBERS.assign(size=SIZES + 1)), tmp_path / "2.svg", tmp_path / "2.txt")
    assert (tmp_path / "1.svg").read_bytes() != (tmp_path / "2.svg").read_bytes()


def test_the_curves_caption_carries_the_summarys_numbers():
    caption = certified_accuracy(CURVE, CONFIDENCE)[1]
    for (_, row), name in zip(SUMMARY.iterrows(), ("DPA", "Run-off Election"), strict=True):
        assert row["median_radius"] >= 1
        assert (
            f"{name}, k = {K}: clean accuracy {row['clean_accuracy']:.1%};"
            f" at least half of the test images certified against {row['median_radius']} poisoned samples." in caption
        )
    assert f"90% for each whole curve at once (Dvoretzky, Kiefer, Wolfowitz), from {N} test images." in caption


def test_a_curve_below_one_half_promises_nothing():
    weak = curve(WEAK, k=K, **RUN)
    caption = certified_accuracy(weak, CONFIDENCE)[1]
    assert weak["certified_accuracy"].iloc[0] < 0.5
    assert caption.count("below one half") == 2
    assert "at least half" not in caption


def test_the_band_is_that_of_the_whole_curve():
    figure, _ = certified_accuracy(CURVE, CONFIDENCE)
    for line, band in zip(figure.axes[0].lines, figure.axes[0].collections, strict=True):
        accuracy, heights = np.asarray(line.get_ydata()), band.get_paths()[0].vertices[:, 1]
        half = dkw_half_width(N, CONFIDENCE)
        np.testing.assert_allclose(heights.max(), min(accuracy.max() + half, 1))
        for corner in (accuracy[0] - half, accuracy[1] + half, 0):
            assert np.isclose(heights, corner).any()


def test_the_other_captions_count_what_the_tables_hold():
    figure, caption = vote_margins(CERTIFIED.rows, K)
    for axes in figure.axes:
        assert sum(patch.get_height() for patch in axes.patches) == N  # nothing lies outside the histogram
    for method, name in (("dpa", "DPA"), ("runoff", "Run-off Election")):
        rows = CERTIFIED.rows[CERTIFIED.rows["method"] == method]
        margin, wrong = (rows["votes"] - rows["runner_up"]).median(), (~rows["correct"]).sum()
        assert 0 < wrong < N
        assert f"{name}: median margin {margin:.0f} of {K} votes, {wrong} of {N} predictions wrong." in caption
    assert partition_sizes(MEMBERS)[1].startswith("9 partitions of 0 to 9 samples, 5.0 on average; 2 empty. 3 base")
    accuracy = CERTIFIED.base_accuracy
    assert base_accuracies(MEMBERS)[1] == (
        f"9 base classifiers: {accuracy.mean():.1%} right on average, from {accuracy.min():.1%} to {accuracy.max():.1%}."
    )


class Cells(HTMLParser):
    """The page's cells: (data-value, shown text), its headings, and every tag."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.cells: list[list[str]] = []
        self.heads: list[str] = []
        self.tags = [""]
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "td":
            self.cells.append([dict(attrs)["data-value"], ""])
        if tag == "button":
            self.heads.append("")

    def handle_data(self, data):
        if self.tags[-1] == "td" and data.strip():
            self.cells[-1][1] += data
        if self.tags[-1] == "button" and not self.heads[-1]:
            self.heads[-1] = data


def test_the_page_holds_every_value_and_escapes_html():
    table = pd.DataFrame(
        {
            "a<b": ['<script>alert("1")</script>', "x & 'y'", None],
            "fraction": [1 / 3, 0.5, float("nan")],
            "whole": [1, -20, 1000],
        }
    )
    content = page(table, "T<i>tle & more")
    parsed = Cells(content)
    assert parsed.heads == ["a<b", "fraction", "whole"]
    assert [tuple(cell) for cell in parsed.cells] == [
        ('<script>alert("1")</script>',) * 2,
        (str(1 / 3), "0.3333"),
        ("1", "1"),
        ("x & 'y'", "x & 'y'"),
        ("0.5", "0.5"),
        ("-20", "-20"),
        ("", ""),
        ("", ""),
        ("1000", "1000"),
    ]
    assert parsed.tags.count("script") == 1
    assert "i" not in parsed.tags
    assert "T&lt;i&gt;tle &amp; more" in content
    assert not re.search(r"(src|href)=|https?://", content)  # nothing from outside


def test_the_page_shows_the_certified_accuracies_of_a_run():
    cells = Cells(page(CURVE, "dpa_cert.csv")).cells
    assert len(cells) == CURVE.size
    column = list(CURVE.columns).index("certified_accuracy")
    assert [float(value) for value, _ in cells[column :: len(CURVE.columns)]] == CURVE["certified_accuracy"].tolist()


def test_the_summary_in_words_carries_the_tables_numbers():
    lines = text(SUMMARY)
    for row in SUMMARY.to_dict("records"):
        assert (
            f"clean accuracy             {row['clean_accuracy']:.2%}  [{row['ci_low']:.2%}, {row['ci_high']:.2%}]"
            in lines
        )
        median = row["median_radius"]
        assert (
            f"{median} insertions or deletions, or {median} label flips, or {median // 2} image replacements" in lines
        )
        assert f"median as papers print it  {median + 1}" in lines
    assert lines.count("partitions                 0 to 9 samples") == 2
    assert lines.count("constant classifiers       3, of which 2 for an empty partition") == 2


def test_a_summary_without_a_median_or_flagged_members_says_nothing_of_them():
    fitted = MEMBERS.assign(flag="fitted")
    lines = text(summary(WEAK, fitted, k=K, **RUN))
    assert "half certified against" not in lines
    assert "constant classifiers" not in lines
    assert "median as papers print it  0" in lines
