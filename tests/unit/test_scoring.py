"""Scores are each member's own: the plain forward pass, whatever stands beside it."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from mithridate import device
from mithridate.artefacts import write_hdf5
from mithridate.errors import InputError
from mithridate.models.registry import builder
from mithridate.options.dpa import ScoringOptions
from mithridate.scoring import files
from mithridate.scoring.files import gather_slices, member_table, open_scores
from mithridate.scoring.scores import COMPARED, Scorer, Scores, write_slice_scores
from mithridate.streams import Stream
from mithridate.training.family import Family
from mithridate.training.flags import DIVERGED, EMPTY, FITTED
from tests.unit.making import subsets

SHAPE, CLASSES, SCALE = (1, 8, 8), 4, 1 / 16
IMAGES = (Stream("scoring").uniform(37, *SHAPE) * 17).astype(np.uint8)
MEAN, STD = np.array([[0.4], [0.5], [0.3]]), np.array([[0.25], [0.2], [0.3]])


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def network(seed: int, model: str = "small_cnn") -> nn.Module:
    """An untrained network whose BatchNorm has statistics of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = builder(model)(*SHAPE, CLASSES).train()
        for _ in range(3):
            net(torch.rand(16, *SHAPE) * (seed + 1))
    return net.eval()


NETWORKS = [network(seed) for seed in range(3)]


def family(nets: list[nn.Module] = NETWORKS, flags: tuple[int, ...] | None = None) -> Family:
    states = [net.state_dict() for net in nets]
    names = [name for name in states[0] if not name.endswith("num_batches_tracked")]
    tensors = {name: np.stack([state[name].numpy() for state in states]) for name in names}
    return Family(
        tensors,
        np.arange(len(nets)),
        np.array(flags or [FITTED] * len(nets)),
        np.arange(len(nets)) / 2,
        np.zeros((len(nets), 32), np.uint8),
    )


def part(whole: Family, *members: int) -> Family:
    rows = list(members)
    tensors = {name: tensor[rows] for name, tensor in whole.tensors.items()}
    return Family(tensors, whole.subset_ids[rows], whole.flags[rows], whole.losses[rows], whole.keys[rows])


def scorer(images: np.ndarray = IMAGES, model: str = "small_cnn", **options) -> Scorer:
    chosen = ScoringOptions(**{"batch_size": 16, **options})
    return Scorer(images, scale=SCALE, model=model, num_classes=CLASSES, options=chosen, device="cpu")


@torch.no_grad()
def forward(member: int) -> np.ndarray:
    """One image at a time."""
    x = (torch.from_numpy(IMAGES).float() * SCALE - MEAN[member].item()) / STD[member].item()
    return torch.cat([NETWORKS[member](image[None]) for image in x]).numpy()


@pytest.mark.parametrize("batch", [1, 16, 37, 64])
def test_scores_are_the_plain_forward_pass_at_any_batch_size(batch):
    result = scorer(batch_size=batch).score(family(), MEAN, STD)
    assert result.scores.shape == (37, 3, CLASSES)
    assert result.scores.dtype == np.float32
    for member in range(3):
        np.testing.assert_allclose(result.scores[:, member], forward(member), atol=1e-5)
    assert (result.changed_argmaxes, result.compared, result.not_finite) == (0, 0, 0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_members_scores_do_not_depend_on_the_others(precision):
    one = scorer(precision=precision)
    whole = one.score(family(), MEAN, STD).scores
    for members in ([0], [1], [2], [2, 0], [2, 1, 0]):
        again = one.score(part(family(), *members), MEAN[members], STD[members]).scores
        assert np.array_equal(again, whole[:, members])
    spoilt = family([NETWORKS[0], network(9), NETWORKS[2]], (FITTED, DIVERGED, FITTED))
    spoilt.tensors["0.weight"][1] = np.nan
    assert np.array_equal(one.score(spoilt, MEAN, STD).scores[:, [0, 2]], whole[:, [0, 2]])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_images_scores_do_not_depend_on_the_padding_or_the_other_images(precision):
    whole = scorer(precision=precision).score(family(), MEAN, STD).scores
    for count in (1, 15, 16, 17, 32):
        assert np.array_equal(
            scorer(IMAGES[:count], precision=precision).score(family(), MEAN, STD).scores, whole[:count]
        )
    other = IMAGES.copy()
    other[1::2] = 16 - other[1::2]
    assert np.array_equal(scorer(other, precision=precision).score(family(), MEAN, STD).scores[::2], whole[::2])


def test_members_of_another_architecture_are_refused():
    given = family()
    given.tensors["extra"] = np.zeros((3, 1), np.float32)
    del given.tensors["9.bias"]
    with pytest.raises(InputError, match=r"do not fit the model \(9.bias, extra\)"):
        scorer().score(given, MEAN, STD)


def test_flagged_members_score_zero_and_are_no_ties():
    given = family(flags=(FITTED, EMPTY, DIVERGED))
    result = scorer().score(given, MEAN, STD)
    assert not result.scores[:, 1:].any()
    np.testing.assert_allclose(result.scores[:, 0], forward(0), atol=1e-5)
    assert result.ties == 0


def test_rows_that_are_not_finite_become_zero_and_are_counted():
    given, images = family(), IMAGES.copy()
    images[::5] = 0  # black is zero where the mean is zero, and 0 times a huge weight is finite
    mean = np.zeros_like(MEAN)
    whole = scorer(images).score(given, mean, STD).scores
    given.tensors["0.weight"][1] *= 1e30
    given.tensors["4.weight"][1] *= 1e30
    result = scorer(images).score(given, mean, STD)
    broken = np.arange(37) % 5 != 0
    assert result.not_finite == broken.sum()
    assert not result.scores[broken, 1].any()
    assert result.scores[~broken, 1].all()
    assert np.array_equal(result.scores[:, [0, 2]], whole[:, [0, 2]])


def test_ties_of_the_two_highest_scores_are_counted():
    given = family()
    for name in ("9.weight", "9.bias"):
        given.tensors[name][2][0] = given.tensors[name][2][1] = given.tensors[name][2].max(0) + 1
    top = np.sort(scorer().score(given, MEAN, STD).scores, axis=2)[..., -2:]
    expected = int((top[..., 0] == top[..., 1]).sum())
    assert scorer().score(given, MEAN, STD).ties == expected > 0


def test_bf16_counts_what_it_changed_and_keeps_the_last_layer_in_fp32():
    many = (Stream("bf16").uniform(COMPARED + 70, *SHAPE) * 17).astype(np.uint8)
    exact = scorer(many, batch_size=100).score(family(), MEAN, STD).scores
    result = scorer(many, batch_size=100, precision="bf16").score(family(), MEAN, STD)
    assert not np.array_equal(result.scores, exact)
    np.testing.assert_allclose(result.scores, exact, atol=0.1)
    compared = min(len(many), -(-COMPARED // 100) * 100)
    assert result.compared == 3 * compared
    changed = (result.scores.argmax(2) != exact.argmax(2))[:compared].sum()
    assert result.changed_argmaxes == changed > 0
    bits = np.ascontiguousarray(result.scores).view(np.uint32)
    assert (bits & 0xFFFF).astype(bool).mean() > 0.9  # not rounded to bf16


def convolution_last(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, num_classes, height), nn.Flatten())


def test_bf16_needs_a_dense_last_layer():
    own = "tests.unit.test_scoring:convolution_last"
    scorer(model=own)
    with pytest.raises(InputError, match=r"dpa.scoring.precision.*nn.Linear.*use fp32"):
        scorer(model=own, precision="bf16")


LABELS = np.arange(37) % CLASSES


SUBSETS = subsets([5, 0, 7])


def write(path, members: list[int], images: np.ndarray = IMAGES, sha256: str = "a", **options):
    own = part(replace(family(), flags=np.array([FITTED, EMPTY, FITTED])), *members)
    one = scorer(images, **options)
    scores = {"clean": one.score(own, MEAN[members], STD[members])}
    write_slice_scores(path, own, scores, one.options, sha256, {})
    return path


def test_slices_are_joined_by_subset_number_whatever_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK_BYTES", 10 * 4 * 3 * CLASSES)  # blocks of 10 rows
    whole = write(tmp_path / "whole.h5", [0, 1, 2])
    a, b = write(tmp_path / "a.h5", [2, 0]), write(tmp_path / "b.h5", [1])
    gather_slices([whole], LABELS, SUBSETS, tmp_path / "scores-1.h5", {"commit": "x"})
    gather_slices([a, b], LABELS, SUBSETS, tmp_path / "scores-2.h5", {"commit": "y"})
    gather_slices([b, a], LABELS, SUBSETS, tmp_path / "scores-3.h5", {"commit": "z"})
    with h5py.File(whole) as file:
        expected = file["scores/clean"][()]
    tables = []
    for number in (1, 2, 3):
        with open_scores(tmp_path / f"scores-{number}.h5") as scores:
            blocks = list(scores.blocks())
            assert [len(block) for block in blocks] == [10, 10, 10, 7]
            assert np.array_equal(np.concatenate(blocks), expected)
            assert scores.subset_ids.tolist() == [0, 1, 2]
            assert np.array_equal(scores.labels, LABELS)
            tables.append(member_table(scores, np.array([0.1, 0.2, 0.3])))
    for table in tables:
        assert table.to_dict("list") == {
            "subset": [0, 1, 2],
            "size": [5, 0, 7],
            "flag": ["fitted", "empty", "fitted"],
            "loss": [0, 0.5, 1],
            "base_accuracy": [0.1, 0.2, 0.3],
        }


def test_counts_of_the_slices_are_added(tmp_path):
    paths = []
    for number, counts in enumerate([(1, 10, 3, 0), (2, 10, 4, 5)]):
        own = part(family(), number)
        scores = {"clean": Scores(np.ones((37, 1, CLASSES), np.float32), *counts)}
        paths.append(tmp_path / f"{number}.h5")
        write_slice_scores(paths[-1], own, scores, ScoringOptions(), "a", {})
    joined = gather_slices(paths, LABELS, subsets([5, 0]), tmp_path / "scores.h5", {})
    assert [joined[name] for name in files.COUNTS] == [3, 20, 7, 5]
    assert joined["precision"] == "fp32"


BAD = {
    "missing": (lambda tmp: write(tmp / "b.h5", [1]), "each of the 3 subsets once"),
    "twice": (lambda tmp: write(tmp / "b.h5", [0, 1, 2]), "each of the 3 subsets once"),
    "other test set": (lambda tmp: write(tmp / "b.h5", [1, 2], IMAGES[:36]), "not of this test set of 37"),
    "other data": (lambda tmp: write(tmp / "b.h5", [1, 2], sha256="b"), "different settings"),
    "other precision": (lambda tmp: write(tmp / "b.h5", [1, 2], precision="bf16"), "different settings"),
    "other batch": (lambda tmp: write(tmp / "b.h5", [1, 2], batch_size=8), "different settings"),
}


@pytest.mark.parametrize("case", BAD)
def test_slices_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path, case):
    make, message = BAD[case]
    a = write(tmp_path / "a.h5", [0])
    with pytest.raises(InputError, match=message) as caught:
        gather_slices([a, make(tmp_path)], LABELS, SUBSETS, tmp_path / "scores.h5", {})
    assert str(a) in str(caught.value)
    assert not (tmp_path / "scores.h5").exists()


def test_a_file_that_is_no_slice_of_scores_is_named(tmp_path):
    write_hdf5(tmp_path / "c.h5", {"x": np.arange(3)}, {}, {})
    with pytest.raises(InputError, match=r"c\.h5 has no data set"):
        gather_slices([tmp_path / "c.h5"], LABELS, SUBSETS, tmp_path / "scores.h5", {})
