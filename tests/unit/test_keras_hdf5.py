"""Keras files: what comes out of them computes what Keras would, goes back to the bit, and hostile ones are refused."""

import json
import resource
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from mithridate.errors import InputError
from mithridate.models import deepid
from mithridate.repair import keras_layout
from mithridate.repair.keras_hdf5 import load_deepid, save_deepid
from mithridate.repair.keras_sequential import load_sequential
from tests.unit.making import FUZZ, JUNK, attempt, flipped, flips, other_files_refused, refused

FACES = (3, 55, 47, 1283)
SMALL = (1, 8, 8, 3)  # 101,510 parameters less: for files that only have to be refused
LAYERS = ("conv_1", "conv_2", "conv_3", "conv_4", "fc_1", "fc_2", "output")


# A second implementation, of Keras' layout and of the network, in NumPy and channels last.


def keras_arrays(channels, height, width, classes, seed=0):
    random, normal = np.random.default_rng(seed), {}
    stages, first = {31: (3, 4), 23: (2, 4), 15: (1, 4), 9: (0, 4), 8: (0, 3)}[
        max(least for least in (31, 23, 15, 9, 8) if least <= min(height, width))
    ]
    rows, columns, inputs = height, width, channels
    for stage, (filters, kernel) in enumerate(((20, first), (40, 3), (60, 3))):
        normal[f"conv_{stage + 1}"] = (kernel, kernel, inputs, filters)
        rows, columns, inputs = rows - kernel + 1, columns - kernel + 1, filters
        if stage < stages:
            rows, columns = rows // 2, columns // 2
    normal["conv_4"] = (2, 2, 60, 80)
    normal["fc_1"] = (60 * rows * columns, 160)
    normal["fc_2"] = (80 * (rows - 1) * (columns - 1), 160)
    normal["output"] = (160, classes)
    return {
        name: (
            (random.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32),
            random.normal(0, 0.1, shape[-1]).astype(np.float32),
        )
        for name, shape in normal.items()
    }, stages


def convolve(x, weights):
    kernel, bias = weights
    windows = sliding_window_view(x, kernel.shape[:2], (1, 2))  # [N, rows, columns, in, i, j]
    return np.einsum("nrcaij,ijab->nrcb", windows, kernel, optimize=True) + bias


def relu(x):
    return np.maximum(x, 0)


def pool(x):
    n, rows, columns, channels = x.shape
    x = x[:, : rows // 2 * 2, : columns // 2 * 2].reshape(n, rows // 2, 2, columns // 2, 2, channels)
    return x.max((2, 4))


def keras_logits(arrays, stages, x):
    x = x.astype(np.float64)
    for stage in range(3):
        x = relu(convolve(x, arrays[f"conv_{stage + 1}"]))
        x = pool(x) if stage < stages else x
    one = x.reshape(len(x), -1) @ arrays["fc_1"][0] + arrays["fc_1"][1]
    two = relu(convolve(x, arrays["conv_4"])).reshape(len(x), -1) @ arrays["fc_2"][0] + arrays["fc_2"][1]
    return relu(one + two) @ arrays["output"][0] + arrays["output"][1]


def conv(name, filters, kernel, **more):
    options = {"name": name, "filters": filters, "kernel_size": [kernel, kernel], "strides": [1, 1], "padding": "valid",
               "data_format": "channels_last", "dilation_rate": [1, 1], "activation": "relu", "use_bias": True}  # fmt: skip
    return {"class_name": "Conv2D", "config": {**options, **more}}


def max_pool(name, **more):
    options = {"name": name, "pool_size": [2, 2], "strides": [2, 2], "padding": "valid", "data_format": "channels_last"}
    return {"class_name": "MaxPooling2D", "config": {**options, **more}}


def dense(name, units, activation="linear", **more):
    return {"class_name": "Dense", "config": {"name": name, "units": units, "activation": activation, **more}}


def other(kind, name="x", **options):
    return {"class_name": kind, "config": {"name": name, **options}}


def deepid_config(channels, height, width, classes, stages):
    first = 3 if min(height, width) == 8 else 4
    layers = [other("InputLayer", "input", batch_input_shape=[None, height, width, channels])]
    for stage, (filters, kernel) in enumerate(((20, first), (40, 3), (60, 3)), 1):
        layers += [conv(f"conv_{stage}", filters, kernel), *([max_pool(f"pool_{stage}")] if stage <= stages else [])]
    layers += [conv("conv_4", 80, 2), other("Flatten", "flatten_1"), other("Flatten", "flatten_2")]
    layers += [dense("fc_1", 160), dense("fc_2", 160), other("Add", "add_1")]
    layers += [other("Activation", "activation_1", activation="relu"), dense("output", classes, "softmax")]
    return {"class_name": "Model", "config": {"name": "model_1", "layers": layers}}


def keras_file(path, arrays, config=None, cut=0):
    """As Keras 2 writes it. cut: how many pieces layer_names is cut into, if any."""
    with h5py.File(path, "w") as file:
        group = file
        if config is not None:
            file.attrs["model_config"] = (json.dumps(config) if isinstance(config, dict) else config).encode()
            file.attrs["keras_version"], file.attrs["backend"] = b"2.3.1", b"tensorflow"
            group = file.create_group("model_weights")
            group.create_group("pool_1").attrs["weight_names"] = []
        names = [name.encode() for name in ("pool_1", *arrays) if config is not None or name != "pool_1"]
        if cut:
            for number, piece in enumerate(np.array_split(np.array(names), cut)):
                group.attrs[f"layer_names{number}"] = piece
        else:
            group.attrs["layer_names"] = names
        group.attrs["keras_version"], group.attrs["backend"] = b"2.3.1", b"tensorflow"
        for name, weights in arrays.items():
            here = group.create_group(name)
            labels = ("kernel:0", "bias:0")[: len(weights)]
            here.attrs["weight_names"] = [f"{name}/{label}".encode() for label in labels]
            for label, array in zip(labels, weights, strict=True):
                here[f"{name}/{label}"] = array
    return path


@pytest.fixture(scope="module")
def faces():
    """DeepID's arrays in Keras' layout, and images NHWC with what Keras would compute of them."""
    arrays, stages = keras_arrays(*FACES)
    images = np.random.default_rng(1).random((3, 55, 47, 3)).astype(np.float32)
    return arrays, deepid_config(*FACES, stages), images, keras_logits(arrays, stages, images)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.h5"


@torch.no_grad()
def logits(network, images):
    return network(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))).numpy()


def stored(path):
    """Every data set of a file, by name, as bytes."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()].tobytes()} if "shape" in dir(item) else {}))
    return found


def test_the_published_network_has_601643_parameters_and_its_layers_by_name():
    network = deepid.build(*FACES)
    assert sum(parameter.numel() for parameter in network.parameters()) == 601_643
    assert {name.split(".")[0] for name, _ in network.named_parameters()} == set(LAYERS)
    assert deepid.grid(55, 47) == (5, 4)


@pytest.mark.parametrize("full", [True, False])
def test_it_computes_what_keras_would(path, faces, full):
    arrays, config, images, expected = faces
    network = load_deepid(keras_file(path, arrays, config if full else None))
    assert not network.training
    assert (network.height, network.width, network.num_classes) == (55, 47, 1283)
    np.testing.assert_allclose(logits(network, images), expected, atol=1e-5)
    loaded = load_deepid(path, scale=255)
    np.testing.assert_allclose(logits(loaded, images / np.float32(255)), expected, atol=1e-5)
    np.testing.assert_array_equal(loaded.conv_1.weight.detach(), network.conv_1.weight.detach())


@pytest.mark.parametrize("shape", [(1, 28, 28, 10), (1, 8, 8, 3), (2, 31, 47, 2), (3, 9, 12, 4)])
def test_other_image_sizes_are_read_from_the_architecture(path, shape):
    arrays, stages = keras_arrays(*shape)
    network = load_deepid(keras_file(path, arrays, deepid_config(*shape, stages)))
    images = np.random.default_rng(1).random((2, *shape[1:3], shape[0])).astype(np.float32)
    np.testing.assert_allclose(logits(network, images), keras_logits(arrays, stages, images), atol=1e-5)
    bare = load_deepid(keras_file(path, arrays), size=shape[1:3])
    np.testing.assert_array_equal(logits(bare, images), logits(network, images))


def test_bare_weights_of_wide_images_need_the_size(path):
    shape = (1, 31, 60, 3)
    arrays, stages = keras_arrays(*shape)
    keras_file(path, arrays)
    upright = load_deepid(path)
    assert deepid.grid(upright.height, upright.width) == deepid.grid(60, 31)
    images = np.random.default_rng(1).random((2, 31, 60, 1)).astype(np.float32)
    made = logits(load_deepid(path, size=(31, 60)), images)
    np.testing.assert_allclose(made, keras_logits(arrays, stages, images), atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 255.0])
@pytest.mark.parametrize("full", [True, False])
def test_weights_come_back_to_the_bit(tmp_path, path, faces, full, scale):
    arrays, config, *_ = faces
    keras_file(path, arrays, config if full else None)
    first, second = tmp_path / "first.h5", tmp_path / "second.h5"
    save_deepid(load_deepid(path, scale), first, like=path)
    again = load_deepid(first)
    assert again.scale == scale
    save_deepid(again, second, like=first)
    assert first.read_bytes() == second.read_bytes()
    assert stored(first) == stored(path)
    with h5py.File(first) as file, h5py.File(path) as original:
        group, expected = (file["model_weights"], original["model_weights"]) if full else (file, original)
        assert [name.decode() for name in group.attrs["layer_names"]] == list(expected.attrs["layer_names"])
        assert group.attrs["keras_version"] == b"2.3.1"
        assert group.attrs["backend"] == b"tensorflow"
        assert [name.decode() for name in group["fc_2"].attrs["weight_names"]] == ["fc_2/kernel:0", "fc_2/bias:0"]
        assert ("model_config" in file.attrs) == full
        assert not full or json.loads(file.attrs["model_config"]) == config
    save_deepid(again, second)  # without an example: bare weights in Keras' order
    with h5py.File(second) as file:
        names = [name.decode() for name in file.attrs["layer_names"]]
    assert [name for name in names if name in LAYERS] == list(LAYERS)
    assert stored(second) == {name.removeprefix("model_weights/"): data for name, data in stored(path).items()}


@pytest.mark.parametrize("shape", [SMALL, (1, 28, 28, 4), (3, 31, 60, 2)])
def test_a_network_of_our_own_comes_back_with_its_size_and_scale(path, shape):
    network = deepid.DeepID(*shape, scale=255).eval()
    save_deepid(network, path, provenance={"commit": "abc"})
    again = load_deepid(path)
    x = torch.rand(2, *shape[:3])
    assert torch.equal(again(x), network(x))
    assert (again.height, again.width, again.scale) == (*shape[1:3], 255)
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_names_that_are_cut_into_pieces_are_put_together(path):
    arrays, _ = keras_arrays(*SMALL)
    whole, cut = (load_deepid(keras_file(path, arrays, cut=cut), size=(8, 8)) for cut in (0, 3))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters(), strict=True))


def test_smaller_images_are_refused_with_the_least_size():
    assert deepid.build(3, 8, 8, 2)(torch.zeros(1, 3, 8, 8)).shape == (1, 2)
    with pytest.raises(InputError, match=r"images of 7 x 30 .* need at least 8 x 8: choose"):
        deepid.build(3, 7, 30, 2)


@pytest.mark.parametrize("layer", ["conv_1", "conv_2", "conv_3", "conv_4"])
@pytest.mark.parametrize("side", [8, 9, 28, 32])
def test_pool_modules_give_the_rectified_pooled_activation_of_their_layer(layer, side):
    network = deepid.build(1, side, side, 2)
    seen = {}
    for name in (layer, layer.replace("conv", "relu" if layer == "conv_4" else "pool")):
        network.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    network(torch.rand(2, 1, side, side))
    before, after = seen.values()
    pooled = torch.max_pool2d(before, 2) if before.shape != after.shape else before
    assert torch.equal(torch.relu(pooled), after)


# Sequential networks.


def sequential(path, layers, arrays, version=2):
    """Old Keras keeps the list of layers alone."""
    config = layers if version < 2 else {"name": "s", "layers": layers}
    return keras_file(path, arrays, {"class_name": "Sequential", "config": config})


def dense_net(sizes):
    random = np.random.default_rng(0)
    return {
        f"dense_{i}": (random.normal(size=(a, b)).astype(np.float32) / 9, random.normal(size=b).astype(np.float32))
        for i, (a, b) in enumerate(pairwise(sizes))
    }


@pytest.mark.parametrize(
    ("version", "first"), [(1, []), (2, [other("InputLayer", batch_shape=[None, 28, 28]), other("Flatten")])]
)
def test_a_dense_target_is_read(path, version, first):
    sizes = (784, 30, 30, 30, 30, 30, 10)
    arrays = dense_net(sizes)
    layers = [dense(name, len(bias), "relu") for name, (_, bias) in arrays.items()]
    layers[0]["config"]["batch_input_shape"] = [None, 784]
    layers[-1]["config"]["activation"] = "softmax"
    network = load_sequential(sequential(path, [*first, *layers], arrays, version))
    assert sum(parameter.numel() for parameter in network.parameters()) == 27_580
    x = np.random.default_rng(1).random((4, 784)).astype(np.float32)
    y = x
    for i, (kernel, bias) in enumerate(arrays.values()):
        y = y @ kernel + bias
        y = relu(y) if i < 5 else y
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.from_numpy(x)).numpy(), y, atol=1e-5)
        np.testing.assert_allclose(network(torch.from_numpy(x.reshape(4, 1, 28, 28))).numpy(), y, atol=1e-5)


def conv_target():
    """The published target for CIFAR-10, with every layer that is read, and its arrays."""
    random = np.random.default_rng(0)
    shapes = {"c1": (3, 3, 3, 32), "c2": (3, 3, 32, 64), "c3": (3, 3, 64, 64), "d1": (1024, 64), "d2": (64, 10)}
    arrays = {
        name: ((random.normal(size=s) / np.sqrt(np.prod(s[:-1]))).astype(np.float32), np.ones(s[-1], np.float32) / 9)
        for name, s in shapes.items()
    }
    layers = [
        conv("c1", 32, 3, batch_input_shape=[None, 32, 32, 3]), max_pool("p1"), conv("c2", 64, 3), max_pool("p2"),
        other("Dropout", rate=0.5), conv("c3", 64, 3, activation="linear"), other("ReLU", max_value=None),
        other("Flatten"), dense("d1", 64), other("Activation", activation="relu"), dense("d2", 10), other("Softmax"),
    ]  # fmt: skip
    return layers, arrays


def test_a_convolutional_target_is_read(path):
    layers, arrays = conv_target()
    network = load_sequential(sequential(path, layers, arrays))
    assert sum(parameter.numel() for parameter in network.parameters()) == 122_570
    x = np.random.default_rng(1).random((2, 32, 32, 3)).astype(np.float32)
    y = pool(relu(convolve(x, arrays["c1"])))
    y = relu(convolve(pool(relu(convolve(y, arrays["c2"]))), arrays["c3"])).reshape(2, -1)
    y = relu(y @ arrays["d1"][0] + arrays["d1"][1]) @ arrays["d2"][0] + arrays["d2"][1]
    np.testing.assert_allclose(logits(network, x), y, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_same_padding_strides_and_layers_without_bias_are_read(path):
    random = np.random.default_rng(0)
    kernels = {"c1": random.normal(size=(2, 3, 1, 4)), "c2": random.normal(size=(3, 3, 4, 5)), "d": np.ones((45, 2))}
    layers = [
        conv("c1", 4, 3, kernel_size=[2, 3], padding="same", use_bias=False, batch_input_shape=[None, 7, 7, 1]),
        conv("c2", 5, 3, strides=[2, 2], use_bias=False), other("Flatten"), dense("d", 2, use_bias=False),
    ]  # fmt: skip
    network = load_sequential(sequential(path, layers, {name: (k.astype(np.float32),) for name, k in kernels.items()}))
    x = random.random((2, 7, 7, 1)).astype(np.float32)
    y = relu(convolve(np.pad(x, ((0, 0), (0, 1), (1, 1), (0, 0))), (kernels["c1"], 0)))  # Keras pads behind first
    y = relu(convolve(y, (kernels["c2"], 0))[:, ::2, ::2]).reshape(2, -1) @ kernels["d"]
    np.testing.assert_allclose(logits(network, x), y, rtol=1e-4)


def changed(number, **options):
    def change(layers):
        layers[number]["config"].update(options)

    return change


BAD_CHAINS = {
    "kind": (lambda layers: layers.insert(1, other("BatchNormalization", "bn")), "layer bn is a BatchNormalization: only"),
    "activation": (changed(2, activation="tanh"), "layer c2 has the activation tanh: only relu"),
    "nested": (changed(2, activation={"class_name": "relu"}), "layer c2 has the activation {'class_name"),
    "channels first": (changed(0, data_format="channels_first"), "c1 has data_format=channels_first, where only"),
    "dilation": (changed(0, dilation_rate=[2, 2]), "c1 has dilation_rate=[2, 2], where only (1, 1) is read"),
    "padding": (changed(1, padding="same"), "p1 has padding=same, where only valid"),
    "same with strides": (changed(0, padding="same", strides=[2, 2]), "c1 has strides=[2, 2], where only (1, 1)"),
    "leaky": (changed(6, negative_slope=0.1), "x has negative_slope=0.1, where only 0"),
    "kernel": (changed(0, kernel_size=[-3, 3]), "c1 has kernel_size=[-3, 3]: save"),
    "too large": (changed(1, pool_size=[64, 64]), "p1 is larger than its 30 x 30 x 32 inputs"),
    "huge": (changed(0, filters=10**40), "c1 has filters=10000"),
    "filters": (changed(0, filters=16), "c1 has weights of 3 x 3 x 3 x 32 but its architecture needs 3 x 3 x 3 x 16"),
    "no shape": (changed(0, batch_input_shape=[None, None, None, 3]), "does not say the shape of its inputs"),
    "no flatten": (lambda layers: layers.pop(7), "the Dense layer d1 takes 4 x 4 x 64 values"),
    "early softmax": (changed(8, activation="softmax"), "d1 has a softmax before the end"),
    "no logits": (changed(10, activation="relu"), "does not end in a dense layer"),
    "twice": (changed(2, name="c1"), "has two layers c1"),
    "unknown": (changed(2, name="c9"), "lacks the weights of the layers c9"),
    "bias": (changed(2, use_bias=False), "lacks weights of the layer c2, which needs a kernel"),
    "empty": (list.clear, "model_config is not the architecture"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_CHAINS)
def test_a_sequential_that_would_compute_something_else_is_refused(path, case):
    layers, arrays = conv_target()
    change, sentence = BAD_CHAINS[case]
    change(layers)
    refused(load_sequential, sequential(path, layers, arrays), sentence)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (None, "lacks the architecture (model_config)"),
        ("no JSON", "model_config is not the architecture that Keras writes"),
        ("[" * 100_000, "model_config is not the architecture"),
        ("[1]", "model_config is not the architecture"),
        ('{"class_name": "Sequential", "config": [{"config": 3}]}', "model_config is not the architecture"),
        ("x" * (1 << 20) + "y", "the attribute model_config is longer than a network's"),
        (deepid_config(*SMALL, 0), "is a Model model, not a Sequential"),
    ],
)
def test_other_architectures_are_refused(path, config, sentence):
    refused(load_sequential, keras_file(path, dense_net((4, 3)), config), sentence)


# Refusals.


def with_kernel(name, change):
    def apply(arrays):
        arrays[name] = (change(arrays[name][0]), arrays[name][1])

    return apply


def damaged(value):
    def change(kernel):
        kernel = kernel.copy()
        kernel.flat[7] = value
        return kernel

    return with_kernel("conv_3", change)


BAD_ARRAYS = {
    "layers": (lambda arrays: [arrays.pop(name) for name in ("conv_4", "fc_2")], "lacks DeepID's conv_4, fc_2: save"),
    "bias": (lambda arrays: arrays.update(fc_1=arrays["fc_1"][:1]), "lacks weights of the layer fc_1, which needs kernel"),
    "shape": (with_kernel("conv_2", lambda k: k[:2]), "conv_2 has weights of 2 x 3 x 20 x 40 but DeepID for images of 8 x"),
    "grid": (with_kernel("fc_1", lambda k: k[:-1]), "fc_1 has weights of 239 x 160"),
    "axes": (with_kernel("conv_1", lambda k: k[0, 0, 0]), "which DeepID cannot have"),
    "flat": (with_kernel("output", lambda k: k[:, 0]), "which DeepID cannot have"),
    "one class": (with_kernel("output", lambda k: k[:, :1]), "give a network of 2 to 4096 classes"),
    "classes": (with_kernel("output", lambda k: np.zeros((160, 5000), "f")), "give a network of 2 to 4096 classes"),
    "bias length": (lambda arrays: arrays.update(conv_4=(arrays["conv_4"][0], np.ones(3, "f"))), "conv_4 has weights of 3 but"),
    "NaN": (damaged(np.nan), "conv_3 has weights that are NaN or infinite"),
    "infinite": (damaged(-np.inf), "conv_3 has weights that are NaN or infinite"),
    "overflow": (with_kernel("conv_3", lambda k: np.full(k.shape, 1e300)), "conv_3 has weights that are NaN or infinite"),
    "integers": (with_kernel("conv_3", lambda k: k.astype(int)), "holds int64, no plain numbers: save it as an array of floats"),
    "complex": (with_kernel("conv_3", lambda k: k.astype(complex)), "holds complex128, no plain numbers"),
    "empty": (with_kernel("conv_3", lambda k: k[:0]), "is empty, 0 x 3 x 40 x 60"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_weights_that_are_not_deepids_are_refused(path, case):
    arrays, _ = keras_arrays(*SMALL)
    change, sentence = BAD_ARRAYS[case]
    change(arrays)
    refused(load_deepid, keras_file(path, arrays), sentence, size=(8, 8))


def test_dense_layers_that_no_image_size_fits_are_refused(path):
    arrays, _ = keras_arrays(*FACES[:3], 2)
    with_kernel("fc_2", lambda kernel: kernel[:880])(arrays)
    refused(load_deepid, keras_file(path, arrays), "no image size gives the widths of fc_1 and fc_2")


@pytest.mark.parametrize(
    ("number", "options", "sentence"),
    [
        (1, {"activation": "tanh"}, "conv_1 has activation=tanh, where only relu"),
        (2, {"strides": [2, 2]}, "conv_2 has strides=[2, 2], where only (1, 1)"),
        (3, {"padding": "same"}, "conv_3 has padding=same, where only valid"),
        (7, {"activation": "relu"}, "fc_1 has activation=relu, where only linear"),
        (10, {"activation": "tanh"}, "activation_1 has activation=tanh, where only relu"),
        (11, {"activation": "sigmoid"}, "output has activation=sigmoid"),
        (
            0,
            {"batch_input_shape": [None, 9, 9, 1]},
            "conv_1 has weights of 3 x 3 x 1 x 20 but DeepID for images of 9 x 9",
        ),
        (
            0,
            {"batch_input_shape": [None, 9999, 9999, 1]},
            "has 0 pooling layers where DeepID for images of 9999 x 9999",
        ),
        (
            0,
            {"batch_input_shape": [None, 1 << 24, 1 << 24, 1]},
            "has 0 pooling layers where DeepID for images of 16777216",
        ),
    ],
)
def test_an_architecture_that_computes_something_else_is_refused(path, number, options, sentence):
    arrays, stages = keras_arrays(*SMALL)
    config = deepid_config(*SMALL, stages)
    config["config"]["layers"][number]["config"].update(options)
    refused(load_deepid, keras_file(path, arrays, config), sentence)


def test_additional_layers_that_compute_are_refused(path):
    arrays, stages = keras_arrays(*SMALL)
    for layer, sentence in [
        (other("BatchNormalization", "bn"), "layer bn is a BatchNormalization: only InputLayer"),
        (other("ReLU", "six", max_value=6.0), "six has max_value=6.0, where only None is read"),
        (max_pool("pool"), "has 1 pooling layers where DeepID for images of 8 x 8 has 0"),
    ]:
        config = deepid_config(*SMALL, stages)
        config["config"]["layers"].insert(2, layer)
        refused(load_deepid, keras_file(path, arrays, config), sentence)


@pytest.mark.parametrize("load", [load_deepid, load_sequential])
def test_files_that_are_none_are_named(path, load):
    other_files_refused(load, path)


def test_hdf5_of_something_else_says_what_it_lacks(path):
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = np.zeros((2, 3, 55, 47)), np.zeros(2)
    refused(
        load_deepid, path, "lacks DeepID's conv_1, conv_2, conv_3, conv_4, fc_1, fc_2, output (there are no layer_names"
    )
    keras_file(path, dense_net((4, 3)))
    refused(load_deepid, path, "lacks DeepID's conv_1, conv_2, conv_3, conv_4, fc_1, fc_2, output: save")


def replace_with(make):
    """Put something else in the place of conv_1's kernel."""

    def change(file, secret):
        group = file["conv_1/conv_1"]
        del group["kernel:0"]
        make(group, secret)

    return change


def external_storage(group, secret):
    group.create_dataset("kernel:0", (3, 3, 1, 20), "f4", external=[(str(secret), 0, 720)])


def virtual(group, secret):
    layout = h5py.VirtualLayout((3, 3, 1, 20), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "kernel", (3, 3, 1, 20))
    group.create_virtual_dataset("kernel:0", layout)


HOSTILE = {
    "external link": (
        replace_with(lambda group, secret: group.__setitem__("kernel:0", h5py.ExternalLink(str(secret), "kernel"))),
        "conv_1/kernel:0 is a link to another place or file, which is not followed",
    ),
    "soft link": (
        replace_with(lambda group, secret: group.__setitem__("kernel:0", h5py.SoftLink("/conv_2/conv_2/kernel:0"))),
        "conv_1/kernel:0 is a link to another place",
    ),
    "linked layer": (
        lambda file, secret: (file.pop("conv_1"), file.__setitem__("conv_1", h5py.ExternalLink(str(secret), "/"))),
        "conv_1 is a link to another place",
    ),
    "linked weights": (
        lambda file, secret: file.__setitem__("model_weights", h5py.ExternalLink(str(secret), "/")),
        "model_weights is a link to another place",
    ),
    "external storage": (replace_with(external_storage), "kernel:0 keeps its data in other files"),
    "virtual": (replace_with(virtual), "kernel:0 keeps its data in other files"),
    "references": (
        replace_with(lambda group, _: group.create_dataset("kernel:0", data=group.ref, dtype=h5py.ref_dtype)),
        "kernel:0 holds object, no plain numbers",
    ),
    "objects": (
        replace_with(lambda group, _: group.create_dataset("kernel:0", (9,), h5py.vlen_dtype(np.float32))),
        "kernel:0 holds object, no plain numbers",
    ),
    "records": (
        replace_with(lambda group, _: group.create_dataset("kernel:0", (9,), [("a\nb", "f4"), ("b" * 99, "f8")])),
        "kernel:0 holds [('a\\nb'",
    ),
    "group": (replace_with(lambda group, _: group.create_group("kernel:0")), "lacks weights of the layer conv_1"),
    "absent": (replace_with(lambda group, _: None), "lacks weights of the layer conv_1"),
    "never written": (
        replace_with(lambda group, _: group.create_dataset("kernel:0", (3, 3, 1, 20), "f4")),
        "claims 3 x 3 x 1 x 20 values, of which the file does not hold all",
    ),
    "huge": (
        replace_with(lambda group, _: group.create_dataset("kernel:0", (1 << 20, 1 << 20, 1 << 20), "f4")),
        "claims 1048576 x 1048576 x 1048576 values, of which the file does not hold all",
    ),
    "huge in chunks": (
        replace_with(lambda group, _: group.create_dataset("kernel:0", (1 << 40,), "f4", chunks=(1 << 20,))),
        "claims 1099511627776 values, of which the file does not hold all",
    ),
    "huge chunk": (
        replace_with(lambda group, _: group.create_dataset("kernel:0", (9,), "f4", chunks=(1 << 29,), maxshape=(None,))),
        "has chunks of (536870912,): save it with smaller ones",
    ),
    "filter": (
        replace_with(
            lambda group, _: group.create_dataset("kernel:0", (9,), "f4", compression=32001, allow_unknown_filter=True)
        ),
        "is packed with another filter than gzip",
    ),
    "numbers for names": (lambda file, _: file.attrs.__setitem__("layer_names", np.arange(9)), "layer_names holds no texts"),
    "one name": (lambda file, _: file.attrs.__setitem__("layer_names", "conv_1"), "lacks DeepID's conv_2"),
    "names of nothing": (lambda file, _: file.attrs.__setitem__("layer_names", ["a\nb"]), "the layer 'a\\nb' but lacks its"),
    "empty names": (lambda file, _: file.attrs.__setitem__("layer_names", h5py.Empty("f4")), "holds no texts"),
    "many names": (lambda file, _: file.attrs.__setitem__("layer_names", np.array([b"a"] * 2000)), "lists more than"),
    "long names": (lambda file, _: file.attrs.__setitem__("layer_names", ["a" * 2000]), "lists more than"),
    "weight names": (lambda file, _: file["fc_1"].attrs.__setitem__("weight_names", ["/etc/passwd", "fc_1/kernel:0/x"]), "lacks weights"),
    "scale": (lambda file, _: file.attrs.__setitem__("input_scale", -1.0), "input_scale and image_size are damaged"),
    "scales": (lambda file, _: file.attrs.__setitem__("input_scale", [1.0, 2.0]), "input_scale and image_size are"),
    "size": (lambda file, _: file.attrs.__setitem__("image_size", "[8, 1e9]"), "input_scale and image_size are"),
    "no size": (lambda file, _: file.attrs.__setitem__("image_size", "["), "input_scale and image_size are"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_at_once(tmp_path, path, case):
    arrays, _ = keras_arrays(*SMALL)
    keras_file(path, arrays)
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["kernel"] = arrays["conv_1"][0]
    change, sentence = HOSTILE[case]
    with h5py.File(path, "a") as file:
        change(file, tmp_path / "secret.h5")
    refused(load_deepid, path, sentence, size=(8, 8))


def test_compressed_weights_are_read_and_bombs_are_not(path, monkeypatch):
    arrays, _ = keras_arrays(*SMALL)
    keras_file(path, arrays)
    with h5py.File(path, "a") as file:
        del file["fc_1/fc_1/kernel:0"]
        kernel = arrays["fc_1"][0]
        file["fc_1/fc_1"].create_dataset("kernel:0", data=kernel, compression="gzip", shuffle=True, fletcher32=True)
        del file["fc_2/fc_2/kernel:0"]
        file["fc_2/fc_2"].create_dataset("kernel:0", data=np.zeros((80, 160), "f4"), chunks=(80, 160), compression=9)
    network = load_deepid(path, size=(8, 8))
    assert not network.fc_2.weight.any()
    np.testing.assert_array_equal(
        network.fc_1.weight[:, 1].detach(), kernel[60]
    )  # row 0, column 1 of the first channel
    monkeypatch.setattr("mithridate.hdf5_guard.SMALL", 10_000)
    refused(load_deepid, path, "claims 51200 bytes but takes ", size=(8, 8))
    monkeypatch.undo()
    monkeypatch.setattr(keras_layout, "MOST_BYTES", 1000)
    refused(load_deepid, path, "has weights of more than 1000 bytes", size=(8, 8))


def test_heaps_that_the_library_would_not_come_to_the_end_of_are_refused(path):
    arrays, stages = keras_arrays(*SMALL)
    content = keras_file(path, arrays, deepid_config(*SMALL, stages)).read_bytes()
    load_deepid(path)
    place = content.index(b"GCOL")
    free = place + 16
    while content[free : free + 2] != b"\0\0":
        free += 16 + -(-int.from_bytes(content[free + 8 : free + 16], "little") // 8) * 8
    path.write_bytes(content[: free + 8] + bytes(8) + content[free + 16 :])
    refused(load_deepid, path, "has a damaged heap of texts")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux says how much memory is taken")
def test_a_text_that_claims_gigabytes_is_refused_before_they_are_taken(path):
    arrays, stages = keras_arrays(*SMALL)
    content = bytearray(keras_file(path, arrays, deepid_config(*SMALL, stages)).read_bytes())
    heap = content.index(b"GCOL")
    reference = content.index(len("pool_1").to_bytes(4, "little") + heap.to_bytes(8, "little"))
    content[reference : reference + 4] = b"\0\0\0\xee"
    path.write_bytes(content)
    before = resource.getrlimit(resource.RLIMIT_AS), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(load_deepid, path, "memory allocation failed")
    assert resource.getrlimit(resource.RLIMIT_AS) == before[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before[1] < 200_000  # kB


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "net.h5"
    arrays, stages = keras_arrays(*SMALL)
    return keras_file(path, arrays, deepid_config(*SMALL, stages)), path.read_bytes()


def test_every_truncation_is_noticed(whole):
    path, content = whole
    for size in (9, 95, 96, 1000, 5000, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        refused(load_deepid, path, "net.h5 is not a whole HDF5 file (")


@FUZZ
@given(JUNK)
def test_random_bytes_raise_nothing_else(whole, data):
    attempt(load_deepid, whole[0], data)


@FUZZ
@given(flips(12_000))
def test_damaged_bytes_raise_nothing_else(whole, places):
    attempt(load_deepid, whole[0], flipped(whole[1], places))


# Saving.


def test_what_cannot_be_saved_is_refused_and_nothing_is_left(tmp_path, path):
    with pytest.raises(InputError, match="only DeepID can be written for Keras, not Sequential"):
        save_deepid(nn.Sequential(nn.Linear(2, 2)), path)
    network = deepid.build(*SMALL)
    with torch.no_grad():
        network.fc_1.bias[3] = torch.nan
    with pytest.raises(InputError, match="weights that are NaN or infinite"):
        save_deepid(network, path)
    with pytest.raises(InputError, match=r"net\.h5 does not exist"):
        save_deepid(deepid.build(*SMALL), tmp_path / "out.h5", like=path)
    keras_file(path, dense_net((4, 3)))
    with pytest.raises(InputError, match=r"net\.h5 has other layers with weights than DeepID"):
        save_deepid(deepid.build(*SMALL), tmp_path / "out.h5", like=path)
    keras_file(path, keras_arrays(1, 8, 8, 4)[0])
    with pytest.raises(InputError, match=r"output has weights of 160 x 4 but the network to be saved needs 160 x 3"):
        save_deepid(deepid.build(*SMALL), tmp_path / "out.h5", like=path)
    names = [*LAYERS, *map(str, range(60)), "a" * 1000]
    with h5py.File(keras_file(path, keras_arrays(*SMALL)[0]), "a") as file:
        file.attrs["layer_names"] = names
        for name in names[len(LAYERS) :]:
            file.create_group(name)
    with pytest.raises(InputError, match=r"net\.h5 has names or a model_config too long to be written"):
        save_deepid(deepid.build(*SMALL), tmp_path / "out.h5", like=path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.h5"]


def test_a_file_may_be_its_own_example(path):
    arrays, stages = keras_arrays(*SMALL)
    keras_file(path, arrays, deepid_config(*SMALL, stages))
    before = stored(path)
    save_deepid(load_deepid(path), path, like=path)
    assert stored(path) == before
