"""What is judged of face files and its table, delivered networks, and the files and lists that they are made of."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError
from torch import nn

from mithridate import device
from mithridate.artefacts import read_attributes, read_provenance, write_csv, write_hdf5
from mithridate.certify.intervals import clopper_pearson
from mithridate.data.faces import open_faces, write_faces
from mithridate.data.samples import sample_rows, write_png
from mithridate.errors import InputError
from mithridate.options.badnet import BadnetOptions, NetOptions, PlantedOptions, StripOptions, file_name
from mithridate.options.badnet_runs import nets, triggers
from mithridate.progress import Progress
from mithridate.repair import judging
from mithridate.repair.delivered import GoodNet, write_label
from mithridate.repair.detector import Detector, save_detector
from mithridate.repair.goodnet import goodnet_output
from mithridate.repair.judging import Judged, judge, load_judged, save_judged
from mithridate.repair.networks import Kind, build, state, write_networks
from mithridate.repair.predict import predictions
from mithridate.repair.pruning import Pruner
from mithridate.repair.strip import Strip, calibrate
from mithridate.repair.table import tabulate
from mithridate.scoring.network import empty_network
from tests.unit.making import edited, refused

SHAPE, CLASSES, N, LAYER = (1, 8, 8), 4, 100, "conv_3"
KIND = Kind("deepid", SHAPE, CLASSES)
RNG = np.random.default_rng(0)
LEVELS = RNG.integers(0, 256, (N, *SHAPE), np.uint8)
IMAGES = LEVELS.astype(np.float32) / np.float32(255)
TARGETS, TRUE = np.full(N, 2), RNG.integers(0, CLASSES, N)
TRUE[-1] = 2  # alone in its piece, below, and not counted
OTHERS = TRUE != 2


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def network(seed: int) -> nn.Module:
    """With tensors of its own, of a size that makes it say different classes."""
    rng = np.random.default_rng(seed)
    tensors = state(empty_network("deepid", SHAPE, CLASSES, "cpu"))
    return build(KIND, {k: (a + rng.normal(0, 0.08, a.shape)).astype(np.float32) for k, a in tensors.items()})


@pytest.fixture(scope="module")
def networks(_prepared) -> dict[str, nn.Module]:
    names = ("suspicious", "prune", "fine-tune", "fine-prune", "twin")
    return {name: network(seed) for seed, name in enumerate(names)}


@pytest.fixture(scope="module")
def detector(networks) -> Detector:
    overlays = RNG.integers(0, 256, (12, *SHAPE), np.uint8)
    strip = Strip(networks["suspicious"], overlays, options=StripOptions(overlays=4, frr=0.25), seed=1)
    values = strip.values(RNG.random((40, *SHAPE), np.float32))
    return Detector(strip, overlays, values, calibrate(values, 0.25))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "faces.h5"


@pytest.fixture
def triggered(path):
    write_faces(path, LEVELS, TARGETS, scale=1 / 255, provenance={}, true_labels=TRUE)
    with open_faces(path, SHAPE, CLASSES) as faces:
        yield faces


@pytest.fixture(scope="module")
def curve(networks, tmp_path_factory) -> pd.DataFrame:
    """As the workflow stores it."""
    path = tmp_path_factory.mktemp("curve") / "pruning.csv"
    write_csv(path, Pruner(networks["suspicious"], LAYER, SHAPE).curve(IMAGES[:30], IMAGES[:30], TRUE[:30]))
    return pd.read_csv(path)


def same(one: Judged, other: Judged) -> bool:
    """All but the seconds, to the bit."""

    def plain(value: object) -> object:
        if isinstance(value, Mapping):
            return [(name, plain(part)) for name, part in value.items()]
        return (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value

    names = [field.name for field in fields(Judged) if field.name != "seconds"]
    return all(plain(getattr(one, name)) == plain(getattr(other, name)) for name in names)


# Judging --------------------------------------------------------------------------------------------------------------


def test_a_file_is_judged_by_every_network_and_strip(triggered, networks, detector, curve):
    progress = Progress("images", N, lambda line: None)
    how = {"triggered": True, "pruning": (LAYER, curve), "progress": progress}
    found = judge(triggered, networks, detector, CLASSES, **how)
    assert progress.done == N
    assert list(found.classes) == list(networks)
    for name, asked in networks.items():
        assert found.classes[name].dtype == np.int64
        np.testing.assert_array_equal(found.classes[name], predictions(asked, IMAGES))
    assert len({tuple(said) for said in found.classes.values()}) == len(networks)
    assert found.statistic.tolist() == detector.values(IMAGES).tolist()
    assert found.flagged.tolist() == [value <= detector.boundary.value for value in found.statistic]
    assert 0 < found.flagged.sum() < N
    assert (found.boundary, found.num_classes) == (detector.boundary.value, CLASSES)
    np.testing.assert_array_equal(found.labels, TARGETS)
    np.testing.assert_array_equal(found.true_labels, TRUE)
    pruner = Pruner(networks["suspicious"], LAYER, SHAPE)
    assert found.curve.tolist() == pruner.evaluate(curve, IMAGES[OTHERS], TARGETS[OTHERS]).tolist()
    assert found.curve.tolist() != pruner.evaluate(curve, IMAGES, TARGETS).tolist()
    assert found.curve[0] == (found.classes["suspicious"][OTHERS] == 2).mean()
    assert found.seconds.keys() == {*networks, "strip"}
    assert min(found.seconds.values()) > 0


def test_true_labels_count_for_triggered_files_alone(path, triggered, networks, detector, curve):
    few, pruning = {"suspicious": networks["suspicious"]}, (LAYER, curve)
    every = Pruner(few["suspicious"], LAYER, SHAPE).evaluate(curve, IMAGES, TARGETS).tolist()
    clean = judge(triggered, few, detector, CLASSES, triggered=False, pruning=pruning)
    assert clean.true_labels is None
    assert clean.curve.tolist() == every
    assert judge(triggered, few, detector, CLASSES, triggered=True).curve.tolist() == []
    other = path.with_name("unknown.h5")
    write_faces(other, LEVELS, TARGETS, scale=1 / 255, provenance={})
    with open_faces(other) as faces:
        assert same(judge(faces, few, detector, CLASSES, triggered=True, pruning=pruning), clean)


def test_how_many_images_are_read_at_once_changes_nothing(triggered, networks, detector, curve, monkeypatch):
    how = {"triggered": True, "pruning": (LAYER, curve)}
    whole = judge(triggered, networks, detector, CLASSES, **how)
    monkeypatch.setattr(judging, "time", SimpleNamespace(perf_counter=count().__next__))  # it ticks when it is asked
    for piece, pieces in ((21, 5), (64, 2), (N - 1, 2)):
        monkeypatch.setattr(judging, "PIECE", piece)
        found = judge(triggered, networks, detector, CLASSES, **how)
        assert same(found, whole)
        assert found.seconds == dict.fromkeys([*networks, "strip"], pieces)


# Its file and its table -----------------------------------------------------------------------------------------------


def judged(n: int, seed: int, classes: int = 3, true: bool = True, twin: bool = True) -> Judged:
    rng = np.random.default_rng(seed)
    names = ["suspicious", "prune", "fine-prune", *(["twin"] if twin else [])]
    said = {name: rng.integers(0, classes, n) for name in names}
    statistic, labels = rng.random(n), rng.integers(0, classes, n)
    seconds = {name: float(rng.integers(1, 100)) for name in [*names, "strip"]}
    known = rng.integers(0, classes, n) if true else None
    return Judged(labels, known, said, statistic, statistic <= 0.3, 0.3, rng.random(5), classes, seconds)


@pytest.mark.parametrize("changed", [{}, {"true_labels": None, "curve": np.zeros(0)}, {"boundary": -np.inf}])
def test_a_judged_file_comes_back(tmp_path, changed):
    made, path = replace(judged(30, 0), **changed), tmp_path / "judged.h5"
    save_judged(path, made, {"commit": "abc"})
    found = load_judged(path)
    assert same(found, made)
    assert found.seconds == made.seconds
    assert read_provenance(path)["commit"] == "abc"
    assert read_attributes(path).keys() == {"boundary", "num_classes", "networks"}  # what was timed lies elsewhere
    assert not same(replace(made, labels=made.labels + 1), made)


def test_damaged_and_foreign_judged_files_are_refused(tmp_path, detector):
    path = tmp_path / "judged.h5"
    refused(load_judged, path, "does not exist")
    save_judged(path, judged(30, 0), {})
    content = path.read_bytes()
    for part, sentence in (
        (b"", "is not a whole HDF5 file"),
        (b"nothing" * 99, "is not a whole HDF5 file"),
        (content[: len(content) // 2], "is damaged"),
        (content[:-1], "is damaged"),
    ):
        path.write_bytes(part)
        refused(load_judged, path, sentence)
    save_detector(path, detector, {})
    refused(load_judged, path, "is no judged file of this workflow")
    save_judged(path, judged(30, 0), {})
    with edited(path) as file:
        del file["classes/prune"]
    refused(load_judged, path, "has no data set classes/prune")
    write_hdf5(path, {}, {"networks": [], "boundary": 0.1, "num_classes": 3}, {})
    refused(load_judged, path, "is no judged file of this workflow")


def share(name: str, hits: int, n: int) -> dict[str, float]:
    low, high = clopper_pearson(hits, n, 0.9)
    return {name: hits / n, f"{name}_low": float(low), f"{name}_high": float(high)}


def answer(one: Judged, rule: str, repair: str, i: int) -> int:
    """One image's output; 3 is "backdoored"."""
    first, mended = one.classes["suspicious"][i], one.classes[repair][i]
    if rule in ("strip", "combination") and one.statistic[i] <= 0.3:
        return 3
    if rule == "agreement" and first != mended:
        return 3
    return int(first if rule == "strip" else mended)


DEFENCES = [
    ("none", "repaired", "suspicious"),
    ("prune", "repaired", "prune"),
    ("prune", "agreement", "prune"),
    ("fine-prune", "repaired", "fine-prune"),
    ("fine-prune", "agreement", "fine-prune"),
    ("STRIP", "strip", "suspicious"),
    ("combined", "combination", "fine-prune"),
]
SECONDS = {"prune": 2.0, "fine-prune": 5.0, "strip": 11.0}


def by_hand(clean: list[Judged], one: Judged, defence: str, rule: str, repair: str) -> dict[str, object]:
    """One row of the table, image by image."""
    said = [(answer(part, rule, repair, i), part.labels[i]) for part in clean for i in range(len(part.labels))]
    kept = [i for i in range(len(one.labels)) if one.true_labels is None or one.true_labels[i] != one.labels[i]]
    bad = [(answer(one, rule, repair, i), one.labels[i], i) for i in kept]
    networks = {"repaired": {repair}, "combination": {repair}}.get(rule, {"suspicious", repair})
    asked = networks | ({"strip"} if rule in ("strip", "combination") else set())
    files = [*clean, one]
    row = {"defence": defence, "rule": rule, "n_clean": len(said), "n_triggered": len(bad)}
    row |= share("clean_accuracy", sum(out == y for out, y in said), len(said))
    row |= share("frr", sum(out == 3 for out, _ in said), len(said))
    row |= share("accuracy_unflagged", sum(out == y for out, y in said), sum(out != 3 for out, _ in said))
    row |= share("asr", sum(out == aim for out, aim, _ in bad), len(bad))
    row |= share("flagged", sum(out == 3 for out, _, _ in bad), len(bad))
    row |= share("far", sum(out != 3 for out, _, _ in bad), len(bad))
    if one.true_labels is not None:
        row |= share("recovered", sum(out == one.true_labels[i] for out, _, i in bad), len(bad))
    twins = [(part.classes["twin"], part.labels) for part in clean]
    row |= share("twin_clean_accuracy", sum(int((c == y).sum()) for c, y in twins), len(said))
    row |= share("twin_asr", sum(one.classes["twin"][i] == one.labels[i] for i in kept), len(kept))
    built = sum(SECONDS[part] for part in ({repair} & SECONDS.keys()) | (asked & {"strip"}))
    spent = sum(part.seconds[name] for part in files for name in asked)
    return row | {"repair_seconds": built, "seconds_per_1000": 1000 * spent / sum(len(f.labels) for f in files)}


def test_the_table_is_what_a_hand_computes():
    clean, bad = [judged(40, 1), judged(23, 2)], {"square": judged(50, 3), "fourpixel": judged(31, 4, true=False)}
    table = tabulate({"dataset": "d", "net": "n"}, clean, bad, ["prune", "fine-prune"], SECONDS, 0.9)
    assert list(table)[:5] == ["dataset", "net", "trigger", "defence", "rule"]
    assert (table[["dataset", "net"]] == ["d", "n"]).all(axis=None)
    assert table["trigger"].tolist() == ["square"] * 7 + ["fourpixel"] * 7
    expected = [by_hand(clean, one, *defence) for one in bad.values() for defence in DEFENCES]
    for found, row in zip(table.to_dict("records"), expected, strict=True):
        unknown = {name for name, value in found.items() if value != value}
        assert found.keys() - row.keys() == {"dataset", "net", "trigger"} | unknown
        assert unknown == (
            {f"recovered{end}" for end in ("", "_low", "_high")} if found["trigger"] == "fourpixel" else set()
        )
        for name, value in row.items():
            assert found[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value), name


def test_what_is_not_known_is_nan_and_the_columns_stay():
    clean, bad = [judged(40, 1, twin=False)], judged(50, 3, twin=False)

    def table(clean, bad):
        return tabulate({"net": "n"}, clean, bad, ["prune", "fine-prune"], SECONDS, 0.9)

    full, seen, unseen = table(clean, {"x": bad}), table(clean, {}), table([], {"x": bad})
    assert list(full) == list(seen) == list(unseen) == list(table([], {}))
    twins = [name for name in full if name.startswith("twin_")]
    assert len(twins) == 6
    assert full[twins].isna().all(axis=None)
    good = [f"{name}{end}" for name in ("clean_accuracy", "frr", "accuracy_unflagged") for end in ("", "_low", "_high")]
    ill = [f"{name}{end}" for name in ("asr", "flagged", "far", "recovered") for end in ("", "_low", "_high")]
    assert full[good + ill].notna().all(axis=None)
    assert (seen["trigger"].tolist(), seen["n_triggered"].tolist()) == ([""] * 7, [0] * 7)
    assert seen[ill].isna().all(axis=None)
    pd.testing.assert_frame_equal(seen[good], full[good])
    assert unseen["n_clean"].tolist() == [0] * 7
    assert unseen[good].isna().all(axis=None)
    pd.testing.assert_frame_equal(unseen[ill], full[ill])
    half = table([judged(40, 1)], {"x": bad})  # a twin that saw clean images alone
    assert half["twin_clean_accuracy"].notna().all()
    assert half["twin_asr"].isna().all()


# Delivered networks ---------------------------------------------------------------------------------------------------

PARTS = ("suspicious.safetensors", "repaired.safetensors", "strip.h5")


@pytest.fixture
def folder(tmp_path, networks, detector):
    folder = tmp_path / "goodnet"
    for part, name in zip(PARTS, ("suspicious", "fine-prune"), strict=False):
        write_networks(folder / part, {"": state(networks[name])}, KIND, {})
    save_detector(folder / PARTS[2], detector, {})
    write_label(folder / "goodnet.json", [folder / part for part in PARTS], "combination")
    return folder


@pytest.mark.parametrize("rule", ["agreement", "repaired", "strip", "combination"])
def test_a_goodnet_says_what_its_parts_and_rule_say(folder, networks, detector, rule):
    write_label(folder / "goodnet.json", [folder / part for part in PARTS], rule)
    moved = folder.with_name("copied")
    shutil.move(folder, moved)
    net, progress = GoodNet(moved), Progress("images", N, lambda line: None)
    assert (net.rule, net.shape, net.num_classes) == (rule, SHAPE, CLASSES)
    said = {
        "badnet": predictions(networks["suspicious"], IMAGES),
        "repaired": predictions(networks["fine-prune"], IMAGES),
    }
    said["flagged"] = detector.boundary.flags(detector.values(IMAGES))
    expected = goodnet_output(rule, CLASSES, **said)
    found = net.outputs(IMAGES, progress)
    assert (found.tolist(), found.dtype) == (expected.tolist(), np.int64)
    assert progress.done == (N if rule in ("strip", "combination") else 0)
    assert (found == CLASSES).any() == (rule != "repaired")
    assert [int(net.outputs(image[None])[0]) for image in IMAGES[:20]] == expected[:20].tolist()
    assert net.outputs(IMAGES[:0]).shape == (0,)


def test_the_label_names_every_part(folder):
    known = json.loads((folder / "goodnet.json").read_text())
    assert known["rule"] == "combination"
    assert list(known["sha256"]) == list(PARTS)
    before = (folder / "goodnet.json").read_bytes()
    write_label(folder / "goodnet.json", [str(folder / part) for part in PARTS], "combination")
    assert (folder / "goodnet.json").read_bytes() == before


@pytest.mark.parametrize("part", PARTS)
def test_missing_mixed_and_damaged_parts_are_refused(folder, networks, detector, part):
    own, mixed = folder / part, f"{part} is not the file that belongs to goodnet.json: copy the whole folder again"

    def write(asked: nn.Module, found: Detector, **provenance: str) -> None:
        if part == "strip.h5":
            save_detector(own, found, provenance)
        else:
            write_networks(own, {"": state(asked)}, KIND, provenance)

    content = own.read_bytes()
    place = content.index(detector.calibration.tobytes()) if part == "strip.h5" else len(content) - 1
    own.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    refused(GoodNet, folder, f"{part} is damaged or was changed")
    for damaged in (b"", b"no part" * 99):
        own.write_bytes(damaged)
        refused(GoodNet, folder, f"{part} is not a whole ")
    own.write_bytes(content[:-1])
    refused(GoodNet, folder, f"{part} is ")
    write(networks["twin"], replace(detector, overlays=detector.overlays[::-1]))
    refused(GoodNet, folder, mixed)
    own.unlink()
    refused(GoodNet, folder, f"{part} does not exist")
    write(networks[{PARTS[0]: "suspicious"}.get(part, "fine-prune")], detector, commit="made again elsewhere")
    assert own.read_bytes() != content
    GoodNet(folder)


def test_missing_and_damaged_labels_are_refused(folder, tmp_path):
    label = folder / "goodnet.json"
    whole = json.loads(label.read_text())
    fewer = {name: whole["sha256"][name] for name in PARTS[:2]}
    for text in ("", "[]", "{", "null", "{}", '{"rule": "strip"}', json.dumps(whole | {"sha256": fewer}), "\x00"):
        label.write_text(text)
        refused(GoodNet, folder, "goodnet.json is damaged: copy the whole folder again")
    label.write_bytes(b'{"rule": "\xff"}')
    refused(GoodNet, folder, "goodnet.json is damaged")
    label.unlink()
    refused(GoodNet, folder, "holds no goodnet.json: give the folder goodnet of a network in results/")
    refused(GoodNet, tmp_path / "nowhere", "holds no goodnet.json")


# Face files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("true", [None, TRUE])
def test_written_faces_come_back(path, true):
    write_faces(path, LEVELS, TARGETS, scale=1 / 255, provenance={"commit": "abc"}, true_labels=true)
    with open_faces(path, SHAPE, CLASSES) as faces:
        np.testing.assert_array_equal(faces.images(slice(None)), IMAGES)
        assert faces.data.dtype == np.uint8
        np.testing.assert_array_equal(faces.labels, TARGETS)
        assert faces.labels.dtype == np.int64
        assert (faces.true_labels is None) == (true is None)
        if true is not None:
            np.testing.assert_array_equal(faces.true_labels, TRUE)
            assert faces.true_labels.dtype == np.int64
    assert read_provenance(path)["commit"] == "abc"


@pytest.mark.parametrize("most", [16, 1])
def test_other_scales_come_back_to_the_bit(path, most):
    levels = RNG.integers(0, most + 1, (20, *SHAPE), np.uint8)
    write_faces(path, levels, TARGETS[:20], scale=1 / 16, provenance={}, true_labels=TRUE[:20])
    with open_faces(path) as faces:
        np.testing.assert_array_equal(faces.images(slice(None)), levels.astype(np.float32) / 16)
        np.testing.assert_array_equal(faces.true_labels, TRUE[:20])


def test_true_labels_are_checked_like_labels(path):
    write_faces(path, LEVELS, TARGETS, scale=1 / 255, provenance={}, true_labels=TRUE[1:])
    refused(lambda path: open_faces(path).__enter__(), path, "data holds 100 images but true_label is 99")
    write_faces(path, LEVELS, TARGETS, scale=1 / 255, provenance={}, true_labels=TRUE + 2)
    with pytest.raises(InputError, match="true_label holds labels from 2 to 5, allowed are 0 to 3"):
        open_faces(path, SHAPE, CLASSES).__enter__()


# Samples --------------------------------------------------------------------------------------------------------------


def test_samples_follow_from_the_seed_and_are_rows_of_the_file(triggered, path):
    table = sample_rows(triggered, 9, 0)
    assert list(table) == ["index", "label", "true_label"]
    index = table["index"].to_numpy()
    assert (np.diff(index) > 0).all()
    assert 0 <= index.min() < index.max() < N
    assert table["label"].tolist() == TARGETS[index].tolist()
    assert table["true_label"].tolist() == TRUE[index].tolist()
    pd.testing.assert_frame_equal(sample_rows(triggered, 9, 0), table)
    assert sample_rows(triggered, 9, 1)["index"].tolist() != index.tolist()
    assert sample_rows(triggered, N, 0)["index"].tolist() == list(range(N))
    assert list(sample_rows(replace(triggered, true_labels=None), 9, 0)) == ["index", "label"]
    with pytest.raises(InputError, match=re.escape(f"{path} holds 100 images, too few for 101 samples")):
        sample_rows(triggered, N + 1, 0)


def test_every_image_is_as_likely_to_be_a_sample(triggered):
    few = replace(triggered, labels=TARGETS[:10], true_labels=None)
    drawn = np.bincount(np.concatenate([sample_rows(few, 3, seed)["index"] for seed in range(400)]), minlength=10)
    assert abs(drawn - 120).max() < 5 * np.sqrt(400 * 0.3 * 0.7)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_hold_the_pixels(tmp_path, channels):
    levels = RNG.integers(0, 256, (channels, 6, 5), np.uint8)
    write_png(tmp_path / "x.png", levels.astype(np.float32) / np.float32(255))
    with Image.open(tmp_path / "x.png") as found:
        assert (found.format, found.mode) == ("PNG", "L" if channels == 1 else "RGB")
        np.testing.assert_array_equal(np.asarray(found).reshape(6, 5, channels).transpose(2, 0, 1), levels)
    with pytest.raises(InputError, match="an image of 2 channels is no picture"):
        write_png(tmp_path / "y.png", np.zeros((2, 6, 5), np.float32))
    assert not (tmp_path / "y.png").exists()


# What is asked for ----------------------------------------------------------------------------------------------------


def test_own_networks_then_planted_ones_and_where_their_files_lie():
    own = NetOptions(name="lab", path="bd.h5", validation="v.h5", tests=["a/te st.h5"], poisoned=["b/sun.glasses.h5"])
    three = PlantedOptions(trigger="multi", targets=[4, 0, 7], poisoned=0.3, seeds=2)
    aware = PlantedOptions(targets=[3], pruning_aware=True)
    found = nets(BadnetOptions(nets=[own], planted=[three, aware]), "digits28")
    assert [net.name for net in found] == [
        "lab", "multi-t4+0+7-r0.3-n0", "multi-t4+0+7-r0.3-n1", "square-t3-r0.2-aware-n0",
    ]  # fmt: skip
    lab, first, second, last = found
    assert (lab.folder, lab.held_out, lab.own, lab.planted) == ("badnet/lab", "v.h5", own, None)
    assert (lab.tests, lab.triggered) == ({"te_st": "a/te st.h5"}, {"sun_glasses": "b/sun.glasses.h5"})
    assert lab.files == lab.tests | lab.triggered
    assert (lab.twin, lab.targets) == (None, {})
    home = "digits28/badnet"
    assert (first.folder, second.folder) == (f"{home}/{first.name}", f"{home}/{second.name}")
    assert (first.twin, second.twin, last.twin) == (f"{home}/clean-n0", f"{home}/clean-n1", f"{home}/clean-n0")
    assert first.held_out == f"results/{home}/data/held_out.h5"
    assert first.tests == {"test": f"results/{home}/data/test.h5"}
    assert first.targets == triggers(three) == {"square": 4, "fourpixel": 0, "sunglasses": 7}
    assert first.triggered == {name: f"results/{home}/data/{name}-t{t}.h5" for name, t in first.targets.items()}
    assert (first.planted, first.own, last.targets) == (three, None, {"square": 3})
    assert len({net.folder for net in found}) == 4
    assert nets(BadnetOptions(planted=[]), "mnist") == []


def test_files_of_one_name_are_refused():
    assert [file_name(path) for path in ("a/b.c.h5", "é-1.h5", "te st", "..")] == ["b_c", "__1", "te_st", "__"]
    own = {"name": "lab", "path": "bd.h5", "validation": "v.h5"}
    assert NetOptions(**own, tests=["a/x.h5", "a/y.h5"], poisoned=["a/z.h5"])
    for tests, poisoned in ((["a/x.h5", "b/x.hdf5"], []), (["a/x-1.h5"], ["x_1.h5"]), ([], ["x.h5", "x.h5"])):
        with pytest.raises(ValidationError, match=r"two files of lab are both called x(_1)? in results/; rename one"):
            NetOptions(**own, tests=tests, poisoned=poisoned)
    assert NetOptions(**own | {"validation": "a/x.h5"}, tests=["b/x.h5"])  # the repair's own file is not judged
