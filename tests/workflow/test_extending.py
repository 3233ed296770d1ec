"""docs/extending.md, run as it is written."""

import re
import subprocess

import pandas as pd
import pytest

from mithridate.data.dataset import load_header
from mithridate.training.slices import read_slice
from tests.workflow.conftest import ROOT, checkout

pytestmark = pytest.mark.workflow
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
TEXT = (ROOT / "docs" / "extending.md").read_text()


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of each block of code."""
    return BLOCK.findall(text)


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """The project with everything that the page adds, and what its commands made."""
    made = checkout(tmp_path_factory.mktemp("extended") / "project")
    for language, content in blocks(TEXT):
        if language == "bash":
            command = ["bash", "-e", "-c", content]
            done = subprocess.run(command, cwd=made.folder, env=made.environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
        else:
            name = content.split("\n", 1)[0].removeprefix("# ")
            with open(made.folder / name, "a") as file:
                file.write(f"\n\n{content}")
    return made


def test_an_addition_takes_twenty_lines_and_two_files_at_most():
    for section in TEXT.split("\n## ")[1:]:
        added = [content for language, content in blocks(section) if language != "bash"]
        assert added
        assert len(added) <= 2
        assert sum(content.count("\n") for content in added) <= 20


def test_the_data_set_and_the_model_are_used(extended):
    header = load_header(extended.path("shapes/data/clean.h5"))
    assert (header.shape, header.num_classes, header.n_train, header.n_test) == ((1, 12, 12), 3, 360, 60)
    slices = extended.path("shapes/dpa/clean/k9d1/models").glob("*.safetensors")
    assert read_slice(next(slices))[1]["model"] == "tiny_net:build"


def test_the_certificate_is_in_tables_and_pictures(extended):
    table = pd.read_csv(extended.path("dpa_cert.csv"))
    table = table[(table["variant"] == "clean") & (table["inputs"] == "clean")]
    ours, dpa = (table[table["method"] == m].set_index("radius")["certified_accuracy"] for m in ("majority", "dpa"))
    assert ours[0] == dpa[0] > 0.8
    assert ours[1] > 0.5
    assert (ours <= dpa.reindex(ours.index, fill_value=0)).all()  # DPA's radius is exact for the plurality vote
    assert "majority" in set(pd.read_csv(extended.path("dpa_summary.csv"))["method"])
    assert "majority, k = 9: clean accuracy" in extended.path("pictures/certified_accuracy.rst").read_text()
    assert "#cc79a7" in extended.path("pictures/certified_accuracy.svg").read_text()


def test_the_attack_is_measured_on_every_defence(extended):
    matrix = pd.read_csv(extended.path("backdoor_matrix.csv"))
    assert set(matrix["trigger"]) == {"stripes-d1"}
    assert set(matrix["defence"]) == {"single", "dpa", "majority"}
