"""Suspicious units: Tarantula by hand, spectra against a loop over images, who competes with whom, the table."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mithridate import device
from mithridate.adversarial.suspicious import (
    COUNTS,
    NO_FAILURES,
    NO_SUCCESSES,
    TIE,
    Spectrum,
    spectra,
    suspicious_masks,
    suspicious_units,
    tabulate,
    tarantula,
)
from mithridate.artefacts import write_csv
from mithridate.errors import InputError
from mithridate.pictures.dgn_target import suspicious_maps
from mithridate.pictures.style import plt
from mithridate.streams import Stream


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


@pytest.mark.parametrize(
    ("af", "nf", "as_", "ns", "score"),
    [
        (3, 1, 1, 3, 0.75),
        (2, 0, 0, 9, 1.0),
        (5, 0, 7, 0, 0.5),
        (1, 3, 3, 3, 1 / 3),
        (0, 4, 3, 3, 0),  # never active on a failure
        (0, 4, 0, 6, 0),  # never active
        (0, 0, 3, 3, 0),  # nothing failed
        (2, 2, 0, 0, 0),  # nothing succeeded
    ],
)
def test_tarantula_by_hand(af, nf, as_, ns, score):
    assert tarantula(*(np.array(count) for count in (af, nf, as_, ns))) == pytest.approx(score)


def test_spectra_of_a_network_by_hand():
    """Images of two pixels; neurons: x₀ − ½, x₁ − ½, 0 (never above it); the class is 1 where both are bright."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    network[1].weight.data = torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    network[1].bias.data = torch.tensor([-0.5, -0.5, 0])
    network[3].weight.data = torch.tensor([[0.0, 0, 0], [1, 1, 0]])
    network[3].bias.data = torch.tensor([0.0, -0.75])
    bright = np.array([[1, 1], [1, 0], [0, 1], [0, 0], [1, 1], [1, 1], [1, 0]], np.float32).reshape(7, 1, 1, 2)
    labels = np.array([0, 0, 0, 0, 1, 1, 1])  # the first fails, and the last
    (found,) = spectra(network, bright, labels, 2)
    assert found.layer == "dense_1"
    assert found.counts[:, 0, :, 0].T.tolist() == [[1, 0, 1, 2], [1, 0, 1, 2], [0, 1, 0, 3]]
    assert found.counts[:, 1, :, 0].T.tolist() == [[1, 0, 2, 0], [0, 1, 2, 0], [0, 1, 0, 2]]
    np.testing.assert_allclose(found.scores, [[0.75, 0.75, 0], [0.5, 0, 0]])
    table = tabulate([found], 1)
    assert table["suspicious"].tolist() == [True, False, False, True, False, False]
    assert table["note"].tolist() == [TIE, "", "", "", "", ""]
    (lower,) = spectra(network, bright, labels, 2, threshold=-0.1)
    assert lower.counts[0, 0, :, 0].tolist() == [1, 1, 1]
    assert lower.counts[2, 1, :, 0].tolist() == [2, 2, 2]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 3), st.integers(3, 70), st.sampled_from([-0.25, 0.0, 0.25]))
def test_spectra_are_those_of_a_loop_over_images(seed, classes, n, threshold):
    relu = nn.ReLU(inplace=True)
    layers = [nn.Conv2d(1, 3, 2), relu, nn.Conv2d(3, 2, 2), relu, nn.Flatten(), nn.Linear(8, 5), relu]
    network = nn.Sequential(*layers, nn.Linear(5, 4), relu, nn.Linear(4, classes))
    # Multiples of powers of 2, of which sums are exact: batches of another size give the same bits.
    for number, parameter in enumerate(network.parameters()):
        values = np.round(16 * Stream("net", seed, number).uniform(*parameter.shape) - 8) / 16
        parameter.data = torch.from_numpy(values).float()
    images = (np.round(4 * Stream("images", seed).uniform(n, 1, 4, 4)) / 4).astype(np.float32)
    labels = np.concatenate([np.arange(classes), Stream("y", seed).raw(n - classes) % np.uint64(classes)]).astype(int)
    found = spectra(network, images, labels, classes, threshold=threshold)
    assert [one.layer for one in found] == ["conv_1", "conv_2", "dense_1", "dense_2"]

    expected = {one.layer: np.zeros_like(one.counts) for one in found}
    for image, label in zip(images, labels, strict=True):
        x = torch.from_numpy(image[None])
        outputs = []
        with torch.no_grad():
            for layer in network:
                x = layer(x.clone())
                outputs.append(x)
        failed = int(x.argmax()) != label
        for name, place in zip(expected, (0, 2, 5, 7), strict=True):
            active = outputs[place].numpy() > threshold
            kind = np.where(active, 0 if failed else 2, 1 if failed else 3).reshape(expected[name].shape[2:])
            for unit, neuron in np.ndindex(*kind.shape):
                expected[name][kind[unit, neuron], label, unit, neuron] += 1
    for one in found:
        np.testing.assert_array_equal(one.counts, expected[one.layer])
        by_hand = np.zeros(one.counts.shape[1:])
        for place in np.ndindex(*by_hand.shape):
            af, nf, as_, ns = (int(one.counts[(i, *place)]) for i in range(4))
            if af + nf and as_ + ns and af + as_:
                by_hand[place] = (af / (af + nf)) / (af / (af + nf) + as_ / (as_ + ns))
        np.testing.assert_allclose(one.scores, by_hand.mean(2))


def test_maps_compete_within_their_layer_and_neurons_with_all_neurons():
    rows = {
        "conv_1": [[0.1, 0.9, 0.9, 0.2]],
        "conv_2": [[0.0, 0.1, 0.0]],
        "dense_1": [[0.5, 0.4]],
        "dense_2": [[0.4, 0.6]],
    }
    chosen = suspicious_units({layer: np.array(row) for layer, row in rows.items()}, 2)
    assert {layer: np.flatnonzero(mask).tolist() for layer, mask in chosen.items()} == {
        "conv_1": [1, 2], "conv_2": [0, 1], "dense_1": [0], "dense_2": [1],
    }  # fmt: skip
    many = {layer: np.array(row) for layer, row in rows.items()}
    with pytest.raises(InputError, match="4 suspicious units are more than the 3 feature maps of conv_2"):
        suspicious_units(many, 4)
    with pytest.raises(InputError, match="5 suspicious units are more than the 4 neurons of dense_1, dense_2"):
        suspicious_units({layer: row for layer, row in many.items() if "dense" in layer}, 5)


@given(st.integers(1, 12), st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 1000))
def test_exactly_k_neurons_are_the_best_of_all_layers(k, sizes, seed):
    scores = {f"dense_{i}": np.round(Stream(seed, i).uniform(3, size), 1) for i, size in enumerate(sizes, 1)}
    if k > sum(sizes):
        with pytest.raises(InputError):
            suspicious_units(scores, k)
        return
    chosen = np.concatenate(list(suspicious_units(scores, k).values()), 1)
    for row, mask in zip(np.concatenate(list(scores.values()), 1), chosen, strict=True):
        assert np.flatnonzero(mask).tolist() == sorted(sorted(range(len(row)), key=lambda i: (-row[i], i))[:k])


def made_up(classes=3):
    """Spectra of a convolution with 4 maps of 6 neurons and of 5 neurons: 4 of 10 images of a class fail, none of the
    last class, and all of the first."""
    found = []
    for layer, shape in (("conv_1", (4, 6)), ("dense_1", (5, 1))):
        failures = np.array([10, *[4] * (classes - 2), 0])[:, None, None]
        share = Stream(layer).uniform(2, classes, *shape)
        af, as_ = (share[0] * (failures + 1)).astype(int), (share[1] * (11 - failures)).astype(int)
        found.append(Spectrum(layer, np.stack([af, failures - af, as_, 10 - failures - as_])))
    return found


def test_the_table_says_where_there_was_nothing_to_choose_from_and_leads_back_to_masks(tmp_path):
    found = made_up()
    table = tabulate(found, 2)
    assert list(table.columns) == ["class", "layer", "unit", "neurons", *COUNTS, "score", "suspicious", "note"]
    assert len(table) == 3 * 9
    assert (table[list(COUNTS)].sum(axis=1) == 10 * table["neurons"]).all()
    assert set(table.loc[table["class"] == 0, "note"]) == {NO_SUCCESSES}
    assert set(table.loc[table["class"] == 2, "note"]) == {NO_FAILURES}
    last = table[(table["class"] == 2) & table["suspicious"]]
    assert last.groupby("layer")["unit"].agg(list).to_dict() == {"conv_1": [0, 1], "dense_1": [0, 1]}
    assert (last["score"] == 0).all()
    write_csv(tmp_path / "units.csv", table)
    expected = suspicious_units({one.layer: one.scores for one in found}, 2)
    for read in (table, pd.read_csv(tmp_path / "units.csv")):
        masks = suspicious_masks(read)
        assert list(masks) == list(expected)
        for layer, mask in masks.items():
            assert mask.dtype == bool
            np.testing.assert_array_equal(mask, expected[layer])
    doubled = pd.concat([table, table[:1]])
    for damaged in (table.drop(columns="suspicious"), table[:-1], table.drop(index=4), doubled):
        with pytest.raises(InputError, match="make it again"):
            suspicious_masks(damaged)


def test_a_class_without_images_is_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    images = np.zeros((3, 1, 1, 2), np.uint8)
    with pytest.raises(InputError, match="class 1 has no training images"):
        spectra(network, images, np.zeros(3, int), 2)
    with pytest.raises(InputError, match="2 outputs for 3 classes"):
        spectra(network, images, np.arange(3), 3)


def test_the_picture_marks_what_was_chosen_and_says_who_had_no_failures():
    figure, caption = suspicious_maps(tabulate(made_up(), 2), ["zero", "one", "two"])
    assert [axes.get_title(loc="left") for axes in figure.axes[:2]] == ["conv_1 (feature maps)", "dense_1 (neurons)"]
    assert "two: no failures" in caption
    assert "one 4 of 10" in caption
    plt.close(figure)
