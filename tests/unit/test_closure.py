"""The import closure that makes Snakemake rerun what depends on an edited file, and nothing else."""

from pathlib import Path

import pytest

from mithridate.closure import ROOT, closure, digest, model_file, stamp
from mithridate.errors import InputError

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


def names(script: str) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in closure(SCRIPTS / script)}


def test_each_script_depends_on_its_own_rooms():
    train, certify = names("train_slice.py"), names("certify_examples.py")
    assert {"training/family.py", "training/stack.py", "streams.py", "training/__init__.py"} <= train
    assert not any(name.startswith("certify/") for name in train)
    assert {"certify/runoff.py", "certify/aggregation.py"} <= certify
    assert not certify & {"training/family.py", "training/tile.py", "models/nin.py", "scoring/scores.py"}
    assert not any(name.startswith(("training/", "certify/")) for name in names("make_data.py"))


def test_the_library_follows_its_arrows():
    """certify, options and findings know nothing of torch, models nothing of data, the library nothing of Snakemake,
    except where it stands in for a plugin of Snakemake's."""
    for file in ROOT.rglob("*.py"):
        text = file.read_text()
        if file.name != "array_task.py":
            assert "import snakemake" not in text, file
            assert "from snakemake" not in text, file
        room = file.relative_to(ROOT).parts[0]
        if room in ("certify", "options", "findings"):
            assert "import torch" not in text, file
        if room == "models":
            assert "mithridate.data" not in text, file


def test_digest_follows_content(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("x = 1\n")
    before = digest([file])
    file.write_text("x = 2\n")
    assert digest([file]) != before


def test_a_change_below_a_folder_is_seen(tmp_path):
    (tmp_path / "train").mkdir()
    file = tmp_path / "train" / "a.png"
    file.write_bytes(b"1")
    before = stamp(tmp_path)
    assert stamp(tmp_path) == before
    file.write_bytes(b"22")
    assert stamp(tmp_path) != before


def test_a_model_that_is_nowhere_is_named():
    with pytest.raises(InputError, match=r"no module nowhere\.at\.all"):
        model_file("nowhere.at.all:build")


def test_model_files():
    assert model_file("nin") == [ROOT / "models" / "nin.py"]
    assert model_file("tests.unit.test_closure:build") == [Path("tests/unit/test_closure.py")]
