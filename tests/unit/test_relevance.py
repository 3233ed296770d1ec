"""Relevance of pixels: zennit against LRP by hand, conservation, which pixels are taken, what is refused."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mithridate import device
from mithridate.adversarial.relevance import STABILISER, class_relevance, relevant_pixels
from mithridate.errors import InputError
from mithridate.models.registry import builder, initialise
from mithridate.pictures.dgn_target import SHOWN, relevance_maps
from mithridate.pictures.style import plt
from mithridate.streams import Stream


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def pictures(n, shape):
    return (Stream("relevance", n).uniform(n, *shape) * 256).astype(np.uint8)


def filled(network):
    """All parameters uniform in ±0.5, from the stream."""
    for number, parameter in enumerate(network.parameters()):
        values = Stream("relevance net", number).uniform(*parameter.shape) - 0.5
        parameter.data = torch.from_numpy(values).float()
    return network.eval()


def logits(network, images):
    with torch.no_grad():
        return network(torch.from_numpy(images / np.float32(255)).float()).numpy().astype(np.float64)


def epsilon_rule(network, x, c):
    """LRP-ε in NumPy: relevance [n, pixels] of class c for flat images x [n, pixels]."""
    layers = [[p.detach().double().numpy() for p in m.parameters()] for m in network if isinstance(m, nn.Linear)]
    inputs = [x]
    for weight, bias in layers[:-1]:
        inputs.append(np.maximum(inputs[-1] @ weight.T + bias, 0))
    relevance = (inputs[-1] @ layers[-1][0].T + layers[-1][1]) * (np.arange(len(layers[-1][1])) == c)
    for (weight, bias), a in zip(reversed(layers), reversed(inputs), strict=True):
        z = a @ weight.T + bias
        relevance = a * (relevance / (z + STABILISER * np.where(z >= 0, 1, -1)) @ weight)
    return relevance


def test_a_dense_target_has_the_relevance_of_the_epsilon_rule():
    shape, classes, n = (1, 6, 7), 3, 150
    network = filled(builder("dgn_dense")(*shape, classes))
    network[-1].bias.data -= torch.from_numpy(logits(network, pictures(n, shape)).mean(0)).float()  # all are predicted
    images = pictures(n, shape)
    said = logits(network, images).argmax(1)
    labels = np.where(np.arange(n) % 5 == 0, (said + 1) % classes, said)  # each fifth is misclassified
    before = deepcopy(network.state_dict())
    found, counts = class_relevance(network, images, labels, classes)
    x = images.reshape(n, -1) / 255
    for c in range(classes):
        rows = (labels == c) & (said == c)
        assert counts[c] == rows.sum() > 1
        expected = epsilon_rule(network, x[rows], c).mean(0)
        np.testing.assert_allclose(found[c].ravel(), expected, atol=1e-5 * np.abs(expected).max(), rtol=1e-4)
    assert found.dtype == np.float64
    assert found.shape == (classes, *shape)
    again, _ = class_relevance(network, (images / np.float32(255)).astype(np.float32), labels, classes)
    np.testing.assert_allclose(again, found, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert all(p.requires_grad and p.grad is None for p in network.parameters())


@pytest.mark.parametrize(("name", "shape"), [("dgn_dense", (1, 8, 8)), ("dgn_conv", (3, 18, 20))])
def test_without_biases_the_relevance_of_an_image_adds_up_to_its_logit(name, shape):
    network = initialise(builder(name), shape, 4, Stream("relevance net")).eval()  # whose biases are zero
    images = pictures(70, shape)
    scores = logits(network, images)
    said = scores.argmax(1)
    used = np.unique(said)
    network[-1].weight.data, network[-1].bias.data = network[-1].weight.data[used], torch.zeros(len(used))
    network[-1].out_features = len(used)
    found, counts = class_relevance(network, images, np.searchsorted(used, said), len(used))
    np.testing.assert_allclose(found.sum((1, 2, 3)), [scores[said == c, c].mean() for c in used], rtol=1e-3)
    assert counts.sum() == len(images)


def test_a_convolution_follows_the_z_plus_rule():
    network = filled(nn.Sequential(nn.Conv2d(1, 5, (3, 4), bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(5, 1)))
    kernel, dense = (next(network[i].parameters()).detach().double().numpy() for i in (0, 3))
    image = pictures(1, (1, 3, 4))
    found, _ = class_relevance(network, image, np.zeros(1, int), 1)
    x, kernel = image.ravel() / 255, kernel.reshape(5, 12)
    hidden = np.maximum(kernel @ x, 0)
    z = hidden @ dense[0] + network[3].bias.item()
    positive = x * kernel.clip(0)
    expected = (hidden * dense[0])[:, None] * positive / (positive.sum(1, keepdims=True) + STABILISER)
    expected = z / (z + STABILISER * np.sign(z)) * expected.sum(0)
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-4, atol=1e-6)


def test_batchnorm_is_merged_and_nested_chains_and_a_shared_relu_are_followed():
    relu = nn.ReLU(inplace=True)
    block = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), relu)
    network = filled(nn.Sequential(block, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 9, 6), relu, nn.Linear(6, 1)))
    block[1].running_mean += 0.1
    block[1].running_var *= 2
    merged = nn.Sequential(fuse_conv_bn_eval(block[0], block[1]), nn.ReLU(), *deepcopy(network[1:]))
    images, labels = pictures(9, (2, 8, 8)), np.zeros(9, int)
    found, _ = class_relevance(network, images, labels, 1)
    expected, _ = class_relevance(merged.eval(), images, labels, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    assert np.abs(found).max() > 0.01


def test_the_most_relevant_pixels_are_taken_and_of_equals_the_first():
    relevance = np.array([[[[3.0, 1.0], [1.0, -5.0]]], [[[0.0, 0.0], [0.0, 0.0]]], [[[-4.0, -1.0], [-2.0, -3.0]]]])
    assert relevant_pixels(relevance, 2).reshape(3, 4).tolist() == [
        [True, True, False, False],
        [True, True, False, False],
        [False, True, True, False],
    ]
    assert relevant_pixels(relevance, 4).all()
    values = np.round(Stream("ties").uniform(5, 3, 4, 6), 1)  # many are equal
    for k in (1, 17, 71):
        chosen = relevant_pixels(values, k)
        assert chosen.shape == values.shape
        for row, mask in zip(values.reshape(5, -1), chosen.reshape(5, -1), strict=True):
            order = sorted(range(len(row)), key=lambda i: (-row[i], i))
            assert sorted(order[:k]) == np.flatnonzero(mask).tolist()
    with pytest.raises(InputError, match="5 relevant pixels are more than the 4"):
        relevant_pixels(relevance, 5)


def test_what_has_no_relevance_is_refused():
    network = filled(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    images = pictures(6, (1, 2, 2))
    said = logits(network, images).argmax(1)
    with pytest.raises(InputError, match=r"class \d has no training image that the target classifies correctly"):
        class_relevance(network, images, 1 - said, 2)
    with pytest.raises(InputError, match="2 outputs for 3 classes"):
        class_relevance(network, images, said, 3)
    with pytest.raises(InputError, match=r"no rule for here \(GELU"):
        class_relevance(nn.Sequential(*network[:2], nn.GELU(), network[3]), images, said, 2)
    with pytest.raises(InputError, match=r"no nn\.Sequential"):
        class_relevance(builder("deepid")(1, 16, 16, 2), images, said, 2)
    with pytest.raises(InputError, match="no hidden"):
        class_relevance(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), images, said, 2)
    network[1].weight.data[0] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        class_relevance(network, images, said, 2)


@pytest.mark.parametrize(("classes", "shape"), [(2, (1, 5, 6)), (SHOWN + 3, (3, 4, 4))])
def test_the_picture_shows_each_class_and_its_marked_pixels(classes, shape):
    relevance = Stream("picture").uniform(classes, *shape) - 0.5
    chosen = relevant_pixels(relevance, 4)
    names = [f"class {c}" for c in range(classes)]
    figure, caption = relevance_maps(relevance, chosen, np.arange(classes) + 7, names)
    shown = min(classes, SHOWN)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == names[:shown]
    assert "4 most relevant" in caption
    assert ("first" in caption) == (classes > SHOWN)
    plt.close(figure)
