"""The command line: the same tables from every kind of file, one sentence for bad ones, and the check of a finished run."""

import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from mithridate import device
from mithridate.artefacts import read_safetensors, write_hdf5, write_safetensors
from mithridate.certify.collective import certify_collective
from mithridate.certify.streaming import certify_blocks
from mithridate.cli import main
from mithridate.data import dataset
from mithridate.data.partition import make_subsets, save_subsets
from mithridate.options.dpa import ScoringOptions
from mithridate.options.training import TrainingOptions
from mithridate.scoring.files import gather_slices
from mithridate.scoring.scores import Scores, write_slice_scores
from mithridate.streams import Stream
from mithridate.training.family import Family, train_family
from mithridate.training.flags import EMPTY, FITTED
from mithridate.training.inputs import open_inputs
from mithridate.training.recipe import Recipe, resolve
from mithridate.training.slices import read_slice, slice_members, write_slice
from tests.unit.making import edited, subsets

N, K, CLASSES = 30, 5, 3
LABELS = np.arange(N) % CLASSES
SCORES = (Stream("cli").uniform(N, K, CLASSES) + 0.3 * np.eye(CLASSES)[LABELS][:, None]).astype(np.float32)
SCORES[:, 1] = 0  # the constant classifier
SIZES, ORDER = np.array([4, 0, 6, 5, 5]), np.array([3, 0, 4, 2, 1])
TABLES = ("certificates.csv.gz", "cert.csv", "summary.csv")


def workflow_file(path: Path) -> Path:
    """scores.h5 as the workflow joins it from two slices."""
    slices = []
    for members in ([4, 0, 1], [2, 3]):
        flags = np.array([EMPTY if member == 1 else FITTED for member in members], np.uint8)
        family = Family({}, np.array(members), flags, np.zeros(len(members)), np.zeros((len(members), 32), np.uint8))
        slices.append(path.with_name(f".{len(slices)}.part.h5"))
        scores = {"clean": Scores(SCORES[:, members], 0, 0, 0, 0)}
        write_slice_scores(slices[-1], family, scores, ScoringOptions(), "a", {})
    gather_slices(slices, LABELS, subsets(SIZES), path, {})
    for part in slices:
        part.unlink()
    return path


def plain_hdf5(path: Path, **changes) -> Path:
    arrays = {"scores": SCORES[:, ORDER], "labels": LABELS, "subset_ids": ORDER, **changes}
    write_hdf5(path, {name: array for name, array in arrays.items() if array is not None}, {}, {})
    return path


def npz(path: Path, **arrays) -> Path:
    np.savez(path, **(arrays or {"scores": SCORES, "labels": LABELS}))
    return path


def tensors(path: Path, **changes) -> Path:
    torch.save({"labels": torch.from_numpy(LABELS), "scores": torch.from_numpy(SCORES), **changes}, path)
    return path


GOOD = {
    "workflow.h5": workflow_file,
    "plain.h5": plain_hdf5,
    "scores.npz": npz,
    "scores.pth": tensors,
    "scores.pt": tensors,
    "shuffled.npz": lambda path: npz(path, scores=SCORES[:, ORDER], labels=LABELS, subset_ids=ORDER),
}


def certify(path: Path, *options: str) -> int:
    return main(["certify", str(path), *options])


@pytest.mark.parametrize("name", GOOD)
def test_the_same_tables_from_every_kind_of_file(tmp_path, capsys, name):
    folder = tmp_path / "in"
    folder.mkdir()
    out = tmp_path / "out"
    assert certify(GOOD[name](folder / name), "--out", str(out)) == 0
    stem = Path(name).stem
    assert [path.name for path in folder.iterdir()] == [name]
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{stem}.{table}" for table in TABLES)
    rows = pd.read_csv(out / f"{stem}.certificates.csv.gz")
    expected = certify_blocks([SCORES], LABELS, ["dpa", "runoff"])
    pd.testing.assert_frame_equal(rows, expected.rows)
    cert, summary = (pd.read_csv(out / f"{stem}.{table}") for table in TABLES[1:])
    assert set(cert["k"]) == {K}
    assert cert["method"].unique().tolist() == summary["method"].tolist() == ["dpa", "runoff"]
    for method, own in rows.groupby("method"):
        curve = cert[cert["method"] == method]["certified_accuracy"].tolist()
        assert curve == [(own["correct"] & (own["radius"] >= r)).mean() for r in range(len(curve))]
        assert (summary.loc[summary["method"] == method, "clean_accuracy"] == curve[0]).all()
    np.testing.assert_allclose(summary["base_accuracy"], expected.base_accuracy.mean())
    assert ("partition_max" in summary) == (name == "workflow.h5")  # only there are sizes known
    if name == "workflow.h5":
        assert summary["flagged_members"].tolist() == summary["empty_members"].tolist() == [1, 1]
    assert f"k = {K}: Run-off Election, {N} test images" in capsys.readouterr().out


def test_equal_scores_give_equal_bytes_whatever_the_file(tmp_path):
    for number, make in enumerate((plain_hdf5, npz, tensors)):
        suffix = (".h5", ".npz", ".pth")[number]
        assert certify(make(tmp_path / f"same{suffix}"), "--out", str(tmp_path / str(number))) == 0
    for table in TABLES:
        assert len({(tmp_path / str(number) / f"same.{table}").read_bytes() for number in range(3)}) == 1


def test_tensors_are_read_in_any_precision_and_with_gradients(tmp_path):
    scores = torch.from_numpy(SCORES).bfloat16()
    for number, tensor in enumerate((scores, scores.float(), scores.float().requires_grad_())):
        assert certify(tensors(tmp_path / "s.pth", scores=tensor), "--out", str(tmp_path / str(number))) == 0
    for table in TABLES:
        assert len({(tmp_path / str(number) / f"s.{table}").read_bytes() for number in range(3)}) == 1


def test_without_a_folder_the_tables_stand_beside_the_file(tmp_path):
    assert certify(npz(tmp_path / "s.npz"), "--methods", "runoff", "--confidence", "0.5") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["s.npz", *(f"s.{table}" for table in TABLES)])
    assert pd.read_csv(tmp_path / "s.summary.csv")["method"].tolist() == ["runoff"]


@pytest.mark.parametrize("make", [npz, plain_hdf5])
def test_votes_alone_are_certified_by_dpa(tmp_path, capsys, make):
    given = {"votes": SCORES.argmax(2), "labels": LABELS}
    if make is plain_hdf5:
        given |= {"scores": None, "subset_ids": None}
    path = make(tmp_path / f"votes{'.npz' if make is npz else '.h5'}", **given)
    assert certify(path) == 0
    rows = pd.read_csv(tmp_path / "votes.certificates.csv.gz")
    pd.testing.assert_frame_equal(rows, certify_blocks([SCORES], LABELS, ["dpa"]).rows)
    for table in TABLES:
        (tmp_path / f"votes.{table}").unlink()
    refused(path, capsys, "votes only", "--methods", "runoff")


SHIFTS = np.array([0, 2])  # of Finite Aggregation, k = 3
FINITE = np.concatenate([SCORES, SCORES[:, :1]], axis=1)
TURNED = np.array([5, 3, 0, 4, 2, 1])


@pytest.mark.parametrize("suffix", ["h5", "npz", "pth"])
def test_shifts_make_it_finite_aggregation_whatever_the_order_of_columns(tmp_path, capsys, suffix):
    path = tmp_path / f"fa.{suffix}"
    given = {"scores": FINITE[:, TURNED], "labels": LABELS, "subset_ids": TURNED, "shifts": SHIFTS}
    if suffix == "pth":
        torch.save({name: torch.from_numpy(array) for name, array in given.items()}, path)
    else:
        (plain_hdf5 if suffix == "h5" else npz)(path, **given)
    assert certify(path) == 0
    expected = certify_blocks([FINITE], LABELS, ["finite", "finite_runoff"], shifts=SHIFTS)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "fa.certificates.csv.gz"), expected.rows)
    for table in TABLES[1:]:
        written = pd.read_csv(tmp_path / f"fa.{table}")
        assert written[["k", "d", "seeds"]].drop_duplicates().values.tolist() == [[3, 2, 1]]
        assert written["method"].unique().tolist() == ["finite", "finite_runoff"]
    assert "k = 3, d = 2: Finite Aggregation, 30 test images" in capsys.readouterr().out


def test_certificates_of_disjoint_subsets_are_refused_where_subsets_overlap(tmp_path, capsys):
    path = npz(tmp_path / "fa.npz", scores=FINITE, labels=LABELS, shifts=SHIFTS)
    for method in ("dpa", "runoff"):
        refused(path, capsys, "one sample touches several classifiers", "--methods", "finite", method)
    refused(path, capsys, "one sample touches several classifiers", "--collective", "1")
    refused(npz(tmp_path / "s.npz"), capsys, "s.npz comes without", "--methods", "finite")
    turned = npz(tmp_path / "turned.npz", scores=FINITE, labels=LABELS, shifts=np.array([2]))
    refused(turned, capsys, "(shifts [2])", "--methods", "dpa")
    assert certify(turned, "--out", str(tmp_path / "out")) == 0


def test_disjoint_subsets_may_be_certified_by_either_name(tmp_path):
    path = npz(tmp_path / "s.npz", scores=FINITE, labels=LABELS, shifts=np.array([0]))
    assert certify(path, "--methods", "dpa", "finite", "runoff", "finite_runoff") == 0
    rows = pd.read_csv(tmp_path / "s.certificates.csv.gz")
    parts = [part.drop(columns="method").reset_index(drop=True) for _, part in rows.groupby("method", sort=False)]
    pd.testing.assert_frame_equal(parts[0], parts[1])
    pd.testing.assert_frame_equal(parts[2], parts[3])


def test_overlapping_votes_alone_are_certified_by_finite_aggregation(tmp_path, capsys):
    path = npz(tmp_path / "votes.npz", votes=FINITE.argmax(2), labels=LABELS, shifts=SHIFTS)
    assert certify(path, "--out", str(tmp_path / "out")) == 0
    rows = pd.read_csv(tmp_path / "out" / "votes.certificates.csv.gz")
    pd.testing.assert_frame_equal(rows, certify_blocks([FINITE], LABELS, ["finite"], shifts=SHIFTS).rows)
    refused(path, capsys, "or --methods finite", "--methods", "finite_runoff")


@pytest.mark.parametrize(
    ("shifts", "message"),
    [
        ([0, 6], "not distinct numbers in 0..5"),
        ([0, 0], "not distinct numbers in 0..5"),
        ([0.0, 1.0], "list of"),
        ([0, 1, 2, 3], "4 shifts need as many classifiers times a whole number, not 6"),
    ],
)
def test_bad_shifts_are_named(tmp_path, capsys, shifts, message):
    path = npz(tmp_path / "bad.npz", scores=FINITE, labels=LABELS, shifts=np.array(shifts))
    refused(path, capsys, f"{path}: ")
    refused(path, capsys, message)


@pytest.mark.parametrize("votes", [True, False])
def test_the_collective_certificate_is_added_to_the_curves(tmp_path, capsys, votes):
    path = npz(tmp_path / "s.npz", **({"votes": SCORES.argmax(2)} if votes else {"scores": SCORES}), labels=LABELS)
    assert certify(path, "--methods", "dpa", "--collective", "1", "2") == 0
    cert = pd.read_csv(tmp_path / "s.cert.csv")
    added = cert[cert["method"] == "collective"]
    assert added[["radius", "certificate_kind", "n_test"]].values.tolist() == [[r, "collective", N] for r in (1, 2)]
    assert added[["ci_low", "ci_high"]].isna().all(axis=None)
    expected = [certify_collective(SCORES.argmax(2), LABELS, CLASSES, r) for r in (1, 2)]
    assert added["certified_accuracy"].tolist() == expected
    point_wise = cert[cert["method"] == "dpa"].set_index("radius")["certified_accuracy"]
    assert (added["certified_accuracy"].to_numpy() >= point_wise.reindex([1, 2], fill_value=0)).all()
    assert f"collectively certified against 2: {expected[1]:.2%}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        certify(path, "--collective", "0")


def refused(path: Path, capsys, message: str, *options: str) -> None:
    """Exit code 1, one line that says what is wrong, and no file that was not there."""
    before = sorted(path.parent.iterdir())
    capsys.readouterr()
    assert certify(path, *options) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert any(one in captured.err for one in message.split("|")), captured.err
    assert captured.out == ""
    assert sorted(path.parent.iterdir()) == before


def changed(array: np.ndarray, where, value) -> np.ndarray:
    result = array.copy()
    result[where] = value
    return result


BAD_ARRAYS = {
    "nan": ({"scores": changed(SCORES, (7, 2, 1), np.nan)}, "nan at test image 7, subset 2, class 1"),
    "infinite": ({"scores": changed(SCORES, (0, 0, 0), np.inf)}, "inf at test image 0"),
    "subset twice": ({"subset_ids": np.array([0, 1, 2, 2, 4])}, "subset 2 twice"),
    "subset missing": ({"subset_ids": np.array([0, 1, 2, 3, 5])}, "none of subset 4"),
    "fewer ids": ({"subset_ids": np.arange(K - 1)}, "subset_ids have shape (4,)"),
    "fewer labels": ({"labels": LABELS[:-1]}, "labels"),
    "more labels": ({"labels": np.append(LABELS, 0)}, "31 labels"),
    "label too large": ({"labels": changed(LABELS, 3, CLASSES)}, "label of test image 3"),
    "negative label": ({"labels": changed(LABELS, 4, -1)}, "label of test image 4"),
    "labels of text": ({"labels": LABELS.astype("S1")}, "not integers|no plain numbers"),
    "text": ({"scores": SCORES.astype("S4")}, "real numbers are needed|no plain numbers"),
    "complex": ({"scores": SCORES * 1j}, "real numbers are needed|no plain numbers"),
    "other sizes": ({"sizes": np.arange(K - 1)}, "sizes must be 5 whole numbers"),
    "other flags": ({"flags": np.zeros(K)}, "flags must be 5 whole numbers"),
    "one class": ({"scores": SCORES[:, :, :1], "labels": 0 * LABELS}, "one class leaves nothing to certify"),
    "no images": ({"scores": SCORES[:0], "labels": LABELS[:0]}, "no test images|is empty"),
    "flat": ({"scores": SCORES[:, :, 0]}, "[test images, classifiers, classes]"),
}


@pytest.mark.parametrize("kind", ["h5", "npz"])
@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_named_and_nothing_is_written(tmp_path, capsys, case, kind):
    changes, message = BAD_ARRAYS[case]
    arrays = {"scores": SCORES, "labels": LABELS, "subset_ids": np.arange(K), **changes}
    path = tmp_path / f"bad.{kind}"
    (plain_hdf5 if kind == "h5" else npz)(path, **arrays)
    refused(path, capsys, message)
    refused(path, capsys, str(path))


BAD_VOTES = {
    "negative": ({"votes": changed(SCORES.argmax(2), (0, 0), -1)}, "votes must be class numbers"),
    "fractions": ({"votes": SCORES.argmax(2) / 2}, "votes must be class numbers"),
    "labels of text": ({"labels": LABELS.astype("S1")}, "not integers|no plain numbers"),
    "no labels": ({"labels": LABELS[:0]}, "labels"),
    "huge label": ({"labels": changed(LABELS, 0, 10**9)}, "label of test image 0"),
    "huge vote": ({"votes": changed(SCORES.argmax(2), (0, 0), 10**9)}, "names class 1000000000"),
    "a vote per image": ({"votes": LABELS}, "votes must be class numbers"),
    "fewer labels": ({"labels": LABELS[:-1]}, "labels"),
    "negative label": ({"labels": changed(LABELS, 4, -1)}, "label of test image 4"),
}


@pytest.mark.parametrize("case", BAD_VOTES)
def test_bad_votes_are_named_and_nothing_is_written(tmp_path, capsys, case):
    changes, message = BAD_VOTES[case]
    refused(npz(tmp_path / "bad.npz", **{"votes": SCORES.argmax(2), "labels": LABELS, **changes}), capsys, message)


@pytest.mark.parametrize("name", GOOD)
def test_truncated_files_are_named(tmp_path, capsys, name):
    path = GOOD[name](tmp_path / name)
    whole = path.read_bytes()
    for share in (0, 0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        refused(path, capsys, name)


def test_missing_and_incomplete_files_are_named(tmp_path, capsys):
    refused(tmp_path / "none.h5", capsys, "none.h5 does not exist")
    refused(npz(tmp_path / "labels.npz", labels=LABELS), capsys, "labels and scores (or votes) are needed")
    refused(plain_hdf5(tmp_path / "scores.h5", labels=None), capsys, "labels and scores (or votes) are needed")
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("scores")
        file["labels"] = LABELS
    refused(tmp_path / "group.h5", capsys, "labels and scores (or votes) are needed")
    torch.save(torch.zeros(3), tmp_path / "one.pth")
    refused(tmp_path / "one.pth", capsys, "holds a Tensor")
    refused(npz(tmp_path / "s.npz"), capsys, "confidence is 1.5", "--confidence", "1.5")


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self):
        return (open, (self.target, "w"))


def test_nothing_is_ever_unpickled(tmp_path, capsys):
    folder, target = tmp_path / "in", tmp_path / "created"
    folder.mkdir()
    evil = Malicious(target)
    pickle.loads(pickle.dumps(evil)).close()
    target.unlink()  # so it does work where it is unpickled
    torch.save({"labels": torch.from_numpy(LABELS), "scores": evil}, folder / "evil.pth")
    (folder / "plain.pth").write_bytes(pickle.dumps(evil, protocol=2))
    torch.save(evil, folder / "old.pth", _use_new_zipfile_serialization=False)
    np.savez(folder / "evil.npz", labels=LABELS, scores=np.array([evil], object), allow_pickle=True)
    (folder / "plain.npz").write_bytes(pickle.dumps(evil))
    for path in sorted(folder.iterdir()):
        refused(path, capsys, path.name)
        assert not target.exists()


def test_the_option_documents_are_written(tmp_path):
    assert main(["config", "--folder", str(tmp_path / "config")]) == 0
    assert sorted(path.name for path in (tmp_path / "config").iterdir()) == ["README.md", "config.yaml", "schema.json"]
    shipped = Path(__file__).parents[2] / "config"
    for path in (tmp_path / "config").iterdir():
        assert path.read_bytes() == (shipped / path.name).read_bytes()


def test_help_and_mistyped_commands_leave_as_usual(capsys):
    for arguments, code in ((["--version"], 0), ([], 2), (["certfy"], 2), (["certify", "x.h5", "--methods", "fa"], 2)):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == code


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> Path:
    """The folder of four members trained in two slices, as the workflow lays it out."""
    device.prepare()
    root = tmp_path_factory.mktemp("run") / "results" / "digits"
    stream = Stream("verify")
    images, labels = (stream.uniform(60, 1, 8, 8) * 17).astype(np.uint8), (stream.uniform(60) * 3).astype(np.int64)
    labels[:3] = range(3)
    digits = dataset.Dataset(images, labels, images[:9], labels[:9], None, 1 / 16, "digits", "made up", ["a", "b", "c"])
    folder, data = root / "dpa" / "clean" / "k4d1", root / "data" / "clean.h5"
    dataset.save(data, digits, 0.2, 0, {})
    header = dataset.load_header(data)
    subsets = make_subsets(images, labels, 4, scale=header.scale, sha256=header.sha256)
    save_subsets(folder / "subsets.h5", subsets, {})
    options = TrainingOptions(epochs=2, steps=None, batch_size=8, strategy="loop")
    recipe = resolve(
        options, model="small_cnn", shape=header.shape, num_classes=3, scale=header.scale, seed=1, device="cpu"
    )
    inputs = open_inputs(data, folder / "subsets.h5")
    for name in ("1-of-2", "2-of-2"):
        trained = train_family(inputs.members(slice_members(4, recipe.width, name)), recipe)
        write_slice(folder / "models" / f"{name}.safetensors", trained, recipe, {})
    return folder


def test_a_finished_run_is_verified(family, capsys):
    assert main(["verify", str(family), "--members", "4", "--seed", "7"]) == 0
    out = capsys.readouterr().out
    assert [f"member {number}: identical" in out for number in range(4)] == [True] * 4
    assert main(["verify", str(family), "--members", "2"]) == 0
    assert capsys.readouterr().out.count("identical") == 2


def test_further_boost_seeds_are_verified_too(family, tmp_path, capsys):
    shutil.copytree(family.parents[2], tmp_path / "digits")
    copy = tmp_path / "digits" / family.relative_to(family.parents[2])
    _, plain = read_slice(copy / "models" / "1-of-2.safetensors")
    recipe = Recipe(**{**plain, "options": TrainingOptions(**plain["options"]), "shape": tuple(plain["shape"])})
    members = open_inputs(tmp_path / "digits" / "data" / "clean.h5", copy / "subsets.h5").members(range(4))
    write_slice(copy / "models" / "1-of-1-seed1.safetensors", train_family(members, recipe, boost=1), recipe, {})
    assert main(["verify", str(copy), "--members", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count("identical") == 4
    assert out.count("boost seed 1: identical") == 2


def test_one_flipped_bit_is_found(family, capsys):
    path = family / "models" / "2-of-2.safetensors"
    whole = path.read_bytes()
    arrays, metadata = read_safetensors(path)
    name = next(name for name in arrays if name.endswith("weight"))
    bits = arrays[name].copy().view(np.uint32)
    bits.reshape(len(bits), -1)[1, -1] ^= 1
    provenance = metadata.pop("provenance")
    try:
        write_safetensors(path, {**arrays, name: bits.view(np.float32)}, metadata, provenance)
        weights = 8 + int.from_bytes(whole[:8], "little")
        assert sum(a != b for a, b in zip(path.read_bytes()[weights:], whole[weights:], strict=True)) == 1
        assert main(["verify", str(family), "--members", "4"]) == 1
    finally:
        path.write_bytes(whole)
    out = capsys.readouterr().out
    assert "member 3: DIFFERENT" in out
    assert out.count("identical") == 3


def test_a_folder_without_a_family_is_named(tmp_path, family, capsys):
    assert main(["verify", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {tmp_path} holds no whole family in models/")
    assert captured.err.count("\n") == 1
    path = family / "models" / "1-of-2.safetensors"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-5])
        assert main(["verify", str(family)]) == 1
    finally:
        path.write_bytes(whole)
    assert capsys.readouterr().err.startswith(f"error: {path} is not a whole safetensors file")


def test_an_h5_file_that_lost_its_shifts_is_not_certified_as_disjoint(tmp_path, capsys):
    path = plain_hdf5(tmp_path / "scores.h5")
    with edited(path) as file:
        file.attrs["d"] = 2
    assert main(["certify", str(path)]) == 1
    assert "says that its subsets overlap (d = 2) but has no shifts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda file: file.attrs.__setitem__("seeds", "two"),
            "the attribute seeds is no single number instead of a whole number",
        ),
        (lambda file: file.attrs.__setitem__("seeds", 0), "the attribute seeds is"),
        (lambda file: (file.__delitem__("labels"), file.__setitem__("labels", 3)), "labels has shape ()"),
    ],
)
def test_damaged_attributes_and_labels_are_named(tmp_path, capsys, change, sentence):
    path = plain_hdf5(tmp_path / "scores.h5")
    with edited(path) as file:
        change(file)
    assert main(["certify", str(path)]) == 1
    assert sentence in capsys.readouterr().err
