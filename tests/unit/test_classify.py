"""`mithridate badnet classify`: shares by hand, the same answer however an image comes, one sentence for what is wrong."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mithridate import device
from mithridate.certify.intervals import clopper_pearson
from mithridate.cli import main
from mithridate.data.faces import Faces, write_faces
from mithridate.data.samples import write_png
from mithridate.models.registry import builder, initialise
from mithridate.options.badnet import StripOptions
from mithridate.repair import classify as module
from mithridate.repair.classify import report
from mithridate.repair.delivered import LABEL, PARTS, REPAIRED, STRIP, SUSPICIOUS, GoodNet, write_label
from mithridate.repair.detector import make_detector, save_detector
from mithridate.repair.networks import Kind, build, state, write_networks
from mithridate.repair.split import Split
from mithridate.streams import Stream

SHAPE, C, N = (1, 28, 28), 10, 24
KIND = Kind("deepid", SHAPE, C)
LEVELS = (Stream("classify").uniform(N, *SHAPE) * 256).astype(np.uint8)
LABELS, TRUE = np.arange(N) % 3, np.arange(N) % 4


@dataclass(frozen=True, eq=False)
class Made:
    """A folder and what its network says of LEVELS."""

    folder: Path
    output: np.ndarray


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    """An untrained network with another one as its repair; STRIP flags about half of all images."""
    device.prepare()
    folder = tmp_path_factory.mktemp("made") / "goodnet"
    for name in (SUSPICIOUS, REPAIRED):
        network = initialise(builder(KIND.model), SHAPE, C, Stream("classify", name))
        write_networks(folder / name, {"": state(network)}, KIND, {})
    suspicious = build(KIND, state(initialise(builder(KIND.model), SHAPE, C, Stream("classify", SUSPICIOUS))))
    clean = (Stream("classify clean").uniform(40, *SHAPE) * 256).astype(np.uint8) / np.float32(255)
    split = Split(np.arange(0), np.arange(20), np.arange(20, 40))
    detector = make_detector(suspicious, clean, split, StripOptions(overlays=6, frr=0.5), seed=0)
    save_detector(folder / STRIP, detector, {})
    write_label(folder / LABEL, [folder / part for part in PARTS], "combination")
    output = GoodNet(folder).outputs(LEVELS / np.float32(255))
    assert 0 < (output == C).sum() < N
    return Made(folder, output)


@pytest.fixture
def path(tmp_path) -> Path:
    return faces(tmp_path / "faces.h5")


def faces(path: Path, levels: np.ndarray = LEVELS, labels: np.ndarray = LABELS, true: np.ndarray | None = None) -> Path:
    write_faces(path, levels, labels, scale=1 / 255, provenance={}, true_labels=true)
    return path


def ask(folder: Path, path: Path, *options: str) -> int:
    return main(["badnet", "classify", "--goodnet", str(folder), str(path), "--device", "cpu", *options])


def share(hits: np.ndarray, confidence: float = 0.95) -> str:
    low, high = clopper_pearson(hits.sum(), len(hits), confidence)
    return f"{hits.mean():.2%}  [{low:.2%}, {high:.2%}]".ljust(30) + f"{hits.sum()} of {len(hits)}"


def shown(text: str) -> dict[str, str]:
    """The indented lines by what they are about."""
    lines = [line for line in text.splitlines() if line.startswith("  ")]
    return {line[:46].strip(): " ".join(line[46:].split()) for line in lines}


def test_shares_of_a_file_with_labels_alone(made, path, tmp_path, capsys):
    assert ask(made.folder, path, "--out", str(tmp_path / "out.csv"), "--confidence", "0.9") == 0
    said = capsys.readouterr()
    flagged, right = made.output == C, made.output == LABELS
    expected = {
        "flagged as backdoored (output 10)": flagged,
        "agree with the file's labels, if unflagged": right[~flagged],
        "agree with the file's labels, overall": right,
    }
    assert shown(said.out) == {what: " ".join(share(hits, 0.9).split()) for what, hits in expected.items()}
    assert said.out.startswith("faces.h5: 24 images\n")
    assert "level 0.9." in said.out
    assert "images of faces.h5: 24 of 24" in said.err
    table = pd.read_csv(tmp_path / "out.csv")
    assert table.columns.tolist() == ["index", "label", "output"]
    np.testing.assert_array_equal(table.to_numpy().T, [np.arange(N), LABELS, made.output])


def test_shares_of_triggered_images_leave_those_of_the_target_out(made, tmp_path, capsys):
    path = faces(tmp_path / "triggered.h5", true=TRUE)
    assert ask(made.folder, path, "--out", str(tmp_path / "out.csv")) == 0
    text, kept = capsys.readouterr().out, LABELS != TRUE
    output, labels, true = made.output[kept], LABELS[kept], TRUE[kept]
    expected = {
        "flagged as backdoored (output 10)": output == C,
        "accuracy on label, if unflagged": (output == labels)[output != C],
        "accuracy on label, overall": output == labels,
        "recovered (output is true_label)": output == true,
    }
    assert shown(text) == {what: " ".join(share(hits).split()) for what, hits in expected.items()}
    assert f"{kept.sum()} triggered images; left out: {N - kept.sum()} whose true_label is their label" in text
    assert "Label is the attack's target: accuracy on it is the attack's success." in text
    assert len(pd.read_csv(tmp_path / "out.csv")) == N


def test_shares_by_hand():
    labels, true = np.array([0, 0, 0, 0, 0]), np.array([0, 1, 2, 3, 4])
    triggered = Faces(Path("t.h5"), labels, true, SHAPE, None)
    text = report(np.array([0, 0, C, 3, 1]), triggered, C, 0.95)
    assert [line.rsplit("  ", 1)[1] for line in text.splitlines()[1:5]] == ["1 of 4", "1 of 3", "1 of 4", "1 of 4"]
    text = report(np.full(5, C), triggered, C, 0.95)
    assert shown(text)["accuracy on label, if unflagged"] == "no image"
    clean = Faces(Path("c.h5"), labels, labels, SHAPE, None)  # true labels that say nothing else
    assert report(np.array([0, 0, C, 3, 1]), clean, C, 0.95).splitlines()[2].endswith("2 of 4")


@pytest.mark.parametrize("rule", ["combination", "strip", "agreement", "repaired"])
def test_files_are_read_in_pieces_under_every_rule(made, path, tmp_path, capsys, monkeypatch, rule):
    folder = Path(shutil.copytree(made.folder, tmp_path / "goodnet"))
    write_label(folder / LABEL, [folder / part for part in PARTS], rule)
    monkeypatch.setattr(module, "PIECE", 7)
    assert ask(folder, path, "--out", str(tmp_path / "out.csv")) == 0
    assert "images of faces.h5: 24 of 24" in capsys.readouterr().err
    expected = GoodNet(folder).outputs(LEVELS / np.float32(255))
    assert pd.read_csv(tmp_path / "out.csv")["output"].tolist() == expected.tolist()


def test_one_image_gets_the_same_answer_from_either_format_and_any_folder(made, tmp_path, capsys):
    folder = Path(shutil.copytree(made.folder, tmp_path / "elsewhere"))
    places = [np.flatnonzero(made.output == C)[0], np.flatnonzero(made.output != C)[0]]
    for place in places:
        write_png(tmp_path / "image.h5", LEVELS[place] / np.float32(255))  # a PNG, whatever its name
        assert ask(folder, tmp_path / "image.h5") == 0
        said = capsys.readouterr()
        assert said.out == f"{made.output[place]}\n"
        assert said.err == ("10 = backdoored input\n" if place == places[0] else f"class {made.output[place]}\n")
        faces(tmp_path / "image.png", LEVELS[place : place + 1], LABELS[place : place + 1])  # HDF5
        assert ask(folder, tmp_path / "image.png", "--out", str(tmp_path / "out.csv")) == 0
        assert pd.read_csv(tmp_path / "out.csv")["output"].tolist() == [made.output[place]]
        assert "of 1\n" in capsys.readouterr().out


def test_a_photograph_is_made_to_fit_and_says_so(made, tmp_path, capsys):
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(tmp_path / "photo", "JPEG")
    assert ask(made.folder, tmp_path / "photo") == 0
    said = capsys.readouterr()
    assert said.out.strip() in map(str, range(C + 1))
    assert said.out.count("\n") == 1
    assert "resized from 40 x 30 to 28 x 28" in said.err


def refused(capsys, folder: Path, path: Path, sentence: str, *options: str) -> None:
    """Exit code 1, one line that says what is wrong, and nothing on standard output."""
    capsys.readouterr()
    assert ask(folder, path, *options) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert sentence in said.err
    assert said.out == ""


def test_bad_files_are_named(made, tmp_path, capsys):
    path = tmp_path / "bad.h5"
    refused(capsys, made.folder, path, "bad.h5 does not exist or is no file")
    refused(capsys, made.folder, tmp_path, "does not exist or is no file")
    for content in (b"", b"GIF89a", b"index,label\n", b"\x89HDF"):
        path.write_bytes(content)
        refused(capsys, made.folder, path, "bad.h5 is neither HDF5 nor PNG nor JPEG")
    path.write_bytes(b"\xff\xd8\xff\xe0 and no more")
    refused(capsys, made.folder, path, "cannot be decoded as PNG or JPEG")
    path.write_bytes(faces(path).read_bytes()[:-500])
    refused(capsys, made.folder, path, "bad.h5 is damaged or was changed")
    faces(path, LEVELS[:, :, :20])
    refused(capsys, made.folder, path, "images are 1 x 20 x 28 but the network takes 1 x 28 x 28")
    for labels in (LABELS + C, LABELS - 1):
        faces(path, labels=labels)
        refused(capsys, made.folder, path, f"label holds labels from {labels.min()} to {labels.max()}")
    faces(path, true=TRUE + C)
    refused(capsys, made.folder, path, "true_label holds labels from 10 to 13")
    faces(path, LEVELS[:0], LABELS[:0])
    refused(capsys, made.folder, path, "data is empty")
    with h5py.File(path, "w") as file:
        file["data"] = LEVELS
    refused(capsys, made.folder, path, "bad.h5 has no data set label")


def test_bad_options_are_named_before_the_work(made, path, tmp_path, capsys):
    refused(capsys, made.folder, path, "confidence is 1.5", "--confidence", "1.5")
    refused(capsys, made.folder, path, "confidence is nan", "--confidence", "nan")
    write_png(tmp_path / "one.png", LEVELS[0] / np.float32(255))
    refused(capsys, made.folder, tmp_path / "one.png", "leave --out away", "--out", str(tmp_path / "out.csv"))
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("part", [*PARTS, LABEL])
def test_a_folder_that_is_no_whole_goodnet_is_named(made, path, tmp_path, capsys, part):
    refused(capsys, tmp_path, path, f"{tmp_path} holds no {LABEL}")
    folder = Path(shutil.copytree(made.folder, tmp_path / "goodnet"))
    content = (folder / part).read_bytes()
    (folder / part).unlink()
    refused(capsys, folder, path, LABEL if part == LABEL else f"{part} ")
    for damaged in (b"", content[:-9], content[: len(content) // 2], content[:-9] + b"000000000"):
        (folder / part).write_bytes(damaged)
        refused(capsys, folder, path, f"{part} ")
    if part == SUSPICIOUS:  # whole, but another one
        shutil.copy(folder / REPAIRED, folder / SUSPICIOUS)
        refused(capsys, folder, path, f"{part} is not the file that belongs to {LABEL}")


@pytest.mark.parametrize("command", [["badnet", "--help"], ["badnet", "classify", "--help"]])
def test_help_says_what_the_last_class_means(capsys, command):
    with pytest.raises(SystemExit) as left:
        main(command)
    assert left.value.code == 0
    assert "with C, which means: backdoored input" in " ".join(capsys.readouterr().out.split())
