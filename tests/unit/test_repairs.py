"""Files of networks, all repairs of one network and STRIP's file: round trips to the bit, and which images are used."""

import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from mithridate import device
from mithridate.artefacts import read_attributes, read_safetensors, write_hdf5, write_safetensors
from mithridate.errors import InputError
from mithridate.options.badnet import BadnetOptions, FineTuningOptions, SplitOptions, StripOptions, WeightRangeOptions
from mithridate.progress import Progress
from mithridate.repair.detector import load_detector, make_detector, save_detector, whole
from mithridate.repair.fine_tuning import fine_tune, prune_weight_range
from mithridate.repair.networks import Kind, build, read_network, read_networks, state, write_networks
from mithridate.repair.predict import predictions
from mithridate.repair.pruning import Pruner, pruned_channels, stop_step
from mithridate.repair.repairs import repair, repair_names
from mithridate.repair.split import split_held_out
from mithridate.repair.strip import Strip, calibrate
from mithridate.scoring.network import empty_network
from tests.unit.making import refused

SHAPE, CLASSES, LAYER = (1, 8, 8), 4, "conv_3"
KIND = Kind("deepid", SHAPE, CLASSES)
FINE = FineTuningOptions(epochs=2, batch_size=16)
OPTIONS = {
    "channels": BadnetOptions(layer=LAYER, tau=10, fine_tuning=FINE),
    "weight_range": BadnetOptions(
        pruning="weight_range", tau=90, fine_tuning=FINE, weight_range=WeightRangeOptions(rounds=2, fine_tuning=FINE)
    ),
}
STRIP = StripOptions(overlays=5, frr=0.1)
SEED, NAME = 3, "square-t0-r0.2-n0"


def data(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of k/255, in which the label's two rows are the brighter ones."""
    rng = np.random.default_rng(seed)
    levels, labels = rng.integers(0, 150, (n, *SHAPE), np.uint8), rng.integers(0, CLASSES, n)
    for image, label in zip(levels, labels, strict=True):
        image[:, 2 * label : 2 * label + 2] += 60
    return levels.astype(np.float32) / np.float32(255), labels


IMAGES, LABELS = data(120, 1)
SPLIT = split_held_out(np.arange(120), SplitOptions(), SEED)


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


@pytest.fixture(scope="module")
def network(_prepared) -> nn.Module:
    """A network that knows the classes."""
    options = FineTuningOptions(epochs=6, learning_rate=3e-3)
    made = fine_tune(empty_network("deepid", SHAPE, CLASSES, "cpu"), *data(300, 0), options, name="made", seed=0)
    assert (predictions(made, IMAGES) == LABELS).mean() > 0.9
    return made


def bits(network: nn.Module) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in state(network).items()}


# Files of networks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [KIND, Kind("deepid", (3, 16, 9), 7, 255), Kind("resnet20", (3, 8, 8), 3)], ids=["small", "255", "norms"]
)
def test_named_networks_come_back_bit_for_bit(tmp_path, kind):
    rng, path, tensors = np.random.default_rng(0), tmp_path / "repairs.safetensors", {}
    for name in ("prune", "a b", "fine-tune"):
        own = state(empty_network(kind.model, kind.shape, kind.num_classes, "cpu"))
        tensors[name] = {key: rng.random(array.shape, np.float32) / 9 for key, array in own.items()}
    write_networks(path, tensors, kind, {"seconds": {"prune": 1.5}}, repair="fine-prune")
    found, known, metadata = read_networks(path)
    assert (list(found), known) == (list(tensors), kind)
    assert (metadata["repair"], metadata["provenance"]) == ("fine-prune", {"seconds": {"prune": 1.5}})
    x = torch.from_numpy(rng.random((3, *kind.shape), np.float32))
    for name, one in found.items():
        assert bits(one) == {key: array.tobytes() for key, array in tensors[name].items()}
        assert not one.training
        with torch.no_grad():
            assert torch.equal(one(x), build(kind, tensors[name])(x))
    again = tmp_path / "again.safetensors"
    write_networks(again, tensors, kind, {"seconds": {"prune": 1.5}}, repair="fine-prune")
    assert again.read_bytes() == path.read_bytes()


def test_a_single_network_has_plain_names_and_named_ones_are_not_taken_for_it(tmp_path, network):
    path = tmp_path / "network.safetensors"
    write_networks(path, {"": state(network)}, KIND, {}, decoys=[4, 2], planted=None)
    tensors, metadata = read_safetensors(path)
    assert set(tensors) == set(network.state_dict())
    assert (metadata["decoys"], metadata["planted"]) == ([4, 2], None)
    found, kind = read_network(path)
    assert (bits(found), kind) == (bits(network), KIND)
    assert list(read_networks(path)[0]) == [""]
    for names in (["prune"], ["prune", "fine-tune"]):
        write_networks(path, {name: state(network) for name in names}, KIND, {})
        refused(read_network, path, f"holds {len(names)} named networks, not one")


def test_the_pixels_that_a_deepid_was_trained_on_are_kept(tmp_path, network):
    path = tmp_path / "network.safetensors"
    write_networks(path, {"": state(network)}, replace(KIND, input_scale=255.0), {})
    found, kind = read_network(path)
    assert (found.scale, kind.input_scale) == (255, 255)
    x = torch.from_numpy(IMAGES)
    with torch.no_grad():
        assert torch.equal(found(x), network(x * 255))
        assert not torch.allclose(found(x), network(x))


def test_damaged_and_foreign_files_of_networks_are_refused(tmp_path, network):
    path = tmp_path / "network.safetensors"
    refused(read_networks, path, "does not exist")
    write_networks(path, {"": state(network)}, KIND, {})
    content = path.read_bytes()
    for part in (b"", b"no network" * 99, content[:500], content[:-1], content[:9] + b"?" + content[10:]):
        path.write_bytes(part)
        refused(read_networks, path, "is not a whole safetensors file")
    about = {"model": "deepid", "shape": SHAPE, "num_classes": CLASSES, "input_scale": 1}
    for metadata in (
        {},
        {"networks": [""]},
        {"networks": None, "kind": about},
        {"networks": [""], "kind": "deepid"},
        {"networks": [""], "kind": about | {"shape": 8}},
        {"networks": [""], "kind": about | {"shape": []}},
        {"networks": [""], "kind": about | {"num_classes": "echo executed"}},
        {"networks": [""], "kind": about | {"num_classes": 10**9}},
        {"networks": [""], "kind": about | {"input_scale": "large"}},
        {"networks": [""], "kind": {key: about[key] for key in ("model", "shape", "num_classes")}},
    ):
        write_safetensors(path, state(network), metadata, {})
        refused(read_networks, path, "holds no networks of this workflow: delete it and make it again")
    write_safetensors(path, state(network), {"networks": [""], "kind": about | {"model": "alexnet"}}, {})
    with pytest.raises(InputError, match="does not hold the tensors of a alexnet"):
        read_networks(path)


def test_a_file_cannot_have_code_imported(tmp_path, network, monkeypatch):
    """Not even where its numbers are right; only where the caller names the same architecture."""
    (tmp_path / "hostile.py").write_text("print('executed')\nfrom mithridate.models.deepid import build\n")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "network.safetensors"
    write_networks(path, {"": state(network)}, replace(KIND, model="hostile:build"), {})
    for own in (None, "other:build"):
        with pytest.raises(InputError, match="'hostile:build', which is not built in"):
            read_network(path, own=own)
        assert "hostile" not in sys.modules
    read_network(path, own="hostile:build")
    assert sys.modules.pop("hostile")


def test_tensors_of_another_kind_are_refused(tmp_path, network):
    tensors, path = state(network), tmp_path / "network.safetensors"
    fewer = {name: array for name, array in tensors.items() if name != "fc_2.bias"}
    for wrong, kind in (
        (fewer, KIND),
        (tensors | {"fc_3.bias": np.zeros(2, np.float32)}, KIND),
        (tensors, replace(KIND, num_classes=5)),
        (tensors, Kind("mlp", SHAPE, CLASSES)),
    ):
        write_networks(path, {"prune": wrong}, kind, {})
        refused(read_networks, path, f"does not hold the tensors of a {kind.model}")


# Repairs --------------------------------------------------------------------------------------------------------------


def mend(network: nn.Module, pruning: str, images: np.ndarray = IMAGES, labels: np.ndarray = LABELS, **how):
    return repair(network, images, labels, SPLIT, OPTIONS[pruning], **{"name": NAME, "seed": SEED, **how})


def everything(made) -> dict[str, dict[str, bytes]]:
    return {name: bits(network) for name, network in made.networks.items()}


@pytest.fixture(scope="module")
def made(network):
    return {pruning: mend(network, pruning) for pruning in OPTIONS}


def test_repairs_by_channels_are_those_of_the_paper(network, made):
    found, before = made["channels"], bits(network)
    assert list(found.networks) == repair_names(OPTIONS["channels"]) == ["prune", "fine-tune", "fine-prune"]
    own = IMAGES[SPLIT.fine_tuning], LABELS[SPLIT.fine_tuning]
    pruner = Pruner(network, LAYER, SHAPE)
    curve = pruner.curve(own[0], *own)
    pd.testing.assert_frame_equal(found.curve, curve, check_exact=True)
    channels, step = pruned_channels(curve, 10).tolist(), stop_step(curve, 10)
    assert 0 < step < 60
    pruned = found.networks["prune"]
    assert bits(pruned) == bits(pruner.pruned(channels))
    accuracy = (predictions(pruned, own[0]) == own[1]).mean()
    assert accuracy == curve["clean_accuracy"][step] <= curve["clean_accuracy"][0] - 0.1
    for name, start in (("fine-prune", pruned), ("fine-tune", network)):
        tuned = fine_tune(start, *own, FINE, name=f"{NAME}/{name}", seed=SEED)
        assert bits(found.networks[name]) == bits(tuned)
    assert not found.networks["fine-prune"].conv_3.weight[channels].any()
    assert found.networks["fine-tune"].conv_3.weight[channels].any()
    assert bits(network) == before


def test_repairs_by_weight_range_are_judged_on_the_overlay_part(network, made):
    found, options = made["weight_range"], OPTIONS["weight_range"]
    assert list(found.networks) == repair_names(options) == ["fine-tune", "weight-range"]
    own, judge = ((IMAGES[part], LABELS[part]) for part in (SPLIT.fine_tuning, SPLIT.overlays))
    how = {"tau": 90, "name": f"{NAME}/weight-range", "seed": SEED}
    expected, curve = prune_weight_range(network, *own, *judge, options.weight_range, **how)
    assert bits(found.networks["weight-range"]) == bits(expected)
    pd.testing.assert_frame_equal(found.curve, curve, check_exact=True)
    assert curve["round"].tolist() == [0, 1, 2]
    assert curve["clean_accuracy"][0] == (predictions(network, judge[0]) == judge[1]).mean()
    assert bits(found.networks["fine-tune"]) == bits(made["channels"].networks["fine-tune"])


@pytest.mark.parametrize("pruning", OPTIONS)
def test_time_and_progress_of_every_repair_are_counted(network, pruning):
    names = repair_names(OPTIONS[pruning])
    progress = Progress("repairs", len(names), lambda line: None)
    seconds = mend(network, pruning, progress=progress).seconds
    assert progress.done == len(names)
    assert seconds.keys() == set(names)
    assert min(seconds.values()) > 0
    if pruning == "channels":
        assert seconds["fine-prune"] > seconds["prune"]  # which is a part of it


@pytest.mark.parametrize("pruning", OPTIONS)
def test_repairs_follow_from_name_and_seed(network, made, pruning):
    first = everything(made[pruning])
    torch.rand(3)
    again = mend(network, pruning)
    assert everything(again) == first
    pd.testing.assert_frame_equal(again.curve, made[pruning].curve, check_exact=True)
    for other in ({"name": "square-t0-r0.2-n1"}, {"seed": SEED + 1}):
        changed = everything(mend(network, pruning, **other))
        assert {name for name in first if changed[name] != first[name]} == first.keys() - {"prune"}


@pytest.mark.parametrize("pruning", OPTIONS)
def test_only_their_own_images_are_used(network, made, pruning):
    """NaN would be refused, and so would labels that are no classes."""
    used = {"channels": [SPLIT.fine_tuning], "weight_range": [SPLIT.fine_tuning, SPLIT.overlays]}[pruning]
    images, labels = np.full_like(IMAGES, np.nan), np.full_like(LABELS, -1)
    for part in used:
        images[part], labels[part] = IMAGES[part], LABELS[part]
    found = mend(network, pruning, images, labels)
    assert everything(found) == everything(made[pruning])
    pd.testing.assert_frame_equal(found.curve, made[pruning].curve, check_exact=True)
    for part in used:
        changed = images.copy()
        changed[part[0]] = np.nan
        with pytest.raises(InputError, match="pixels outside"):
            mend(network, pruning, changed, labels)


def test_accuracy_that_is_never_lost_is_named(network):
    with pytest.raises(InputError, match=r"tau: pruning costs at most .* points"):
        repair(network, IMAGES, LABELS, SPLIT, BadnetOptions(tau=99.9), name=NAME, seed=SEED)


# STRIP's file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [STRIP, StripOptions(overlays=5, frr=0.01, boundary="normal", overlay="convex"), StripOptions(overlays=5, frr=0.3, statistic="labels", batch_size=20)],
    ids=["empirical", "normal", "labels"],
)  # fmt: skip
def test_a_detector_comes_back_bit_for_bit(tmp_path, network, options):
    progress = Progress("STRIP", 36, lambda line: None)
    detector = make_detector(network, IMAGES, SPLIT, options, seed=SEED, progress=progress)
    assert progress.done == len(SPLIT.calibration) == 36
    new = data(20, 5)[0]
    strip = Strip(network, whole(IMAGES[SPLIT.overlays]), options=options, seed=SEED)
    assert detector.calibration.tolist() == strip.values(IMAGES[SPLIT.calibration]).tolist()
    assert detector.boundary == calibrate(detector.calibration, options.frr, options.boundary)
    assert detector.values(new).tolist() == strip.values(new).tolist()

    path = tmp_path / "strip.h5"
    save_detector(path, detector, {"seconds": 2.5})
    found = load_detector(path, build(KIND, state(network)))
    assert (found.boundary, found.strip.options, found.strip.seed) == (detector.boundary, options, SEED)
    assert read_attributes(path)["boundary"] == detector.boundary.value
    for name in ("overlays", "calibration"):
        one, other = getattr(found, name), getattr(detector, name)
        assert (one.dtype, one.tobytes()) == (other.dtype, other.tobytes())
    assert found.overlays.dtype == np.uint8
    assert found.values(new).tobytes() == detector.values(new).tobytes()
    other = build(KIND, {name: array[::-1] for name, array in state(network).items()})
    assert found.strip.chosen(new).tolist() == detector.strip.chosen(new).tolist()
    assert found.values(new).tolist() != load_detector(path, other).values(new).tolist()


def test_images_that_are_no_whole_levels_come_back_as_well(tmp_path, network):
    images = IMAGES * np.float32(0.7)
    detector = make_detector(network, images, SPLIT, STRIP, seed=SEED)
    save_detector(tmp_path / "strip.h5", detector, {})
    found = load_detector(tmp_path / "strip.h5", network)
    assert found.overlays.dtype == np.float32
    np.testing.assert_array_equal(found.overlays, images[SPLIT.overlays])
    assert found.values(IMAGES[:9]).tobytes() == detector.values(IMAGES[:9]).tobytes()


def test_a_detector_sees_overlays_and_calibration_images_alone(network):
    images = np.full_like(IMAGES, np.nan)
    for part in (SPLIT.overlays, SPLIT.calibration):
        images[part] = IMAGES[part]
    found, whole_set = (make_detector(network, some, SPLIT, STRIP, seed=SEED) for some in (images, IMAGES))
    assert found.boundary == whole_set.boundary
    assert found.values(IMAGES[:9]).tolist() == whole_set.values(IMAGES[:9]).tolist()
    other = make_detector(network, IMAGES, SPLIT, STRIP, seed=SEED + 1)
    assert other.calibration.tolist() != found.calibration.tolist()


class Untouched(nn.Module):
    def forward(self, x):
        raise AssertionError("a network was asked")


def test_too_few_images_are_refused_before_a_network_is_asked():
    for options, sentence in (
        (StripOptions(overlays=5, frr=0.02), r"strip\.frr: with 36 calibration images a share of 0\.02"),
        (StripOptions(overlays=37, frr=0.1), r"strip\.overlays: 37 different overlays .* there are 36"),
    ):
        with pytest.raises(InputError, match=sentence):
            make_detector(Untouched(), IMAGES, SPLIT, options, seed=SEED)
    with pytest.raises(AssertionError, match="a network was asked"):
        make_detector(Untouched(), IMAGES, SPLIT, STRIP, seed=SEED)


def test_damaged_and_foreign_detectors_are_refused(tmp_path, network):
    path, how = tmp_path / "strip.h5", {"network": network}
    refused(load_detector, path, "does not exist", **how)
    save_detector(path, make_detector(network, IMAGES, SPLIT, STRIP, seed=SEED), {})
    content = path.read_bytes()
    not_whole, changed = "is not a whole HDF5 file", "is damaged or was changed after it was made"
    parts = [b"", b"no detector" * 99, content[: len(content) // 2], content[:-1]]
    for part, sentence in zip(parts, [not_whole, not_whole, changed, changed], strict=True):
        path.write_bytes(part)
        refused(load_detector, path, sentence, **how)
    arrays = {"overlays": np.zeros((6, *SHAPE), np.uint8), "calibration": np.arange(20.0)}
    options = STRIP.model_dump(mode="json")
    write_hdf5(path, arrays, {"options": options, "seed": 0}, {})
    assert load_detector(path, network).boundary.value == 1
    for attributes in (
        {"options": options},
        {"seed": 0},
        {"options": "{", "seed": 0},
        {"options": [1], "seed": 0},
        {"options": options | {"frr": 2}, "seed": 0},
        {"options": options | {"laid": 5}, "seed": 0},
        {"options": options, "seed": "one"},
    ):
        write_hdf5(path, arrays, attributes, {})
        with pytest.raises(InputError, match="is no detector of this workflow"):
            load_detector(path, network)
    write_hdf5(path, {"overlays": arrays["overlays"]}, {"options": json.dumps(options), "seed": 0}, {})
    refused(load_detector, path, "has no data set calibration", **how)


def test_whole_levels_are_kept_in_a_byte_and_others_as_they_are():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    images = levels.astype(np.float32) / np.float32(255)
    found = whole(images)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, levels)
    for other in (
        images * np.float32(0.999),
        np.nextafter(images, np.float32(2)),
        np.arange(17, dtype=np.float32) / 16,
    ):
        assert whole(other) is other
    one = images.copy()
    one[0, 0, 3, 3] += 1e-6
    assert whole(one) is one
