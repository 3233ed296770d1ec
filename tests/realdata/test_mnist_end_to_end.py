"""The reduced run on the real MNIST, as docs/results keeps it."""

import pandas as pd
import pytest

from tests.workflow.conftest import checkout

pytestmark = pytest.mark.realdata


def test_mnist_in_minutes(real_data, tmp_path):
    project = checkout(tmp_path / "project")
    done = project.run(
        "record",
        "--cores", "2", "--configfile", "config/mnist_reduced.yaml",
        config=(f"data={{root: {real_data}}}",), dpa=None,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    summary = pd.read_csv(project.path("dpa_summary.csv")).set_index("method")
    assert (summary["clean_accuracy"] >= 0.95).all()
    assert (summary["median_radius"] >= 45).all()
    assert (summary["flagged_members"] == 0).all()
    found = pd.read_csv(project.folder / "docs/results/mnist_reduced/findings.csv").set_index("id")
    assert set(found.loc[found["kind"] == "number", "verdict"]) == {"not comparable"}  # k = 100 is no published setting
    assert found.loc["dpa-mnist-k1200-clean", "ours"] == summary.loc["dpa", "clean_accuracy"]
