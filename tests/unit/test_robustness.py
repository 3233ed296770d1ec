"""Who is robust against whom: adversarial images as files, what a network says of them, the table, the targets."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from mithridate import device
from mithridate.adversarial.evaluation import attacked, evaluate, for_classes, white_box
from mithridate.adversarial.examples import Examples, load_examples, make_examples, save_examples
from mithridate.adversarial.gradient_attacks import Fgsm, Pgd, attack, into_ball, random_signs
from mithridate.adversarial.similarity import similarity
from mithridate.adversarial.table import tabulate
from mithridate.adversarial.targets import check_target, own_target, repeat_seed
from mithridate.artefacts import read_provenance, write_hdf5
from mithridate.errors import InputError
from mithridate.options import dgn_runs
from mithridate.options.dgn import DgnOptions, EvaluationOptions
from mithridate.options.root import parse
from mithridate.progress import Progress
from mithridate.repair.networks import Kind, state
from tests.unit.making import other_files_refused, refused
from tests.unit.test_keras_hdf5 import conv, conv_target, dense, dense_net, other, sequential

SHAPE, CLASSES, EPSILON = (1, 6, 6), 3, 0.15
HOW = {"attack": "nce", "mode": "transfer", "epsilon": EPSILON, "true_label": True, "bounded": True, "seconds": 0.5}
BUDGET = EvaluationOptions(
    num_random_init_pgd=1, max_iterations_pgd=4, autoattack={"iterations": 3}, epsilons=[0.05, 0.15, 0.3]
)


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    device.prepare()


def data(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images with a row that is brighter, which is their class."""
    rng = np.random.default_rng(seed)
    x, y = 0.5 * rng.random((n, *SHAPE), np.float32), rng.integers(0, CLASSES, n)
    x[np.arange(n), 0, 2 * y] += 0.3
    return x, y


X, Y = data(40)


def near(images: np.ndarray, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(scale=0.2, size=images.shape)
    return into_ball(images, images + noise.astype(np.float32), EPSILON)


@pytest.fixture(scope="module")
def network(_prepared) -> nn.Module:
    """A dense network that knows the classes."""
    x, y = map(torch.from_numpy, data(300, 1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, CLASSES))
    adam = torch.optim.Adam(made.parameters(), lr=0.02)
    for _ in range(120):
        adam.zero_grad()
        nn.functional.cross_entropy(made(x), y).backward()
        adam.step()
    return made.eval()


def right(network: nn.Module, images: np.ndarray, labels: np.ndarray) -> int:
    with torch.no_grad():
        return int((network(torch.from_numpy(images)).argmax(1).numpy() == labels).sum())


# Adversarial images as files ------------------------------------------------------------------------------------------


def test_examples_come_back_bit_for_bit(tmp_path):
    path, images = tmp_path / "test.h5", near(X)
    for changed, keep in (
        ({}, None),
        ({"mode": "wrong-class", "true_label": True}, np.arange(40) % 3 == 1),
        ({"attack": "random", "mode": "random", "bounded": False}, Y == 2),
    ):
        made = make_examples(X, Y, images, **{**HOW, **changed}, keep=keep)
        rows = np.arange(40) if keep is None else np.flatnonzero(keep)
        assert made.rows.tolist() == rows.tolist()
        assert made.images.tobytes() == images[rows].tobytes()
        assert made.labels.tolist() == Y[rows].tolist()
        assert made.likeness == pytest.approx(similarity(X[rows], images[rows]).mean().to_dict())
        assert made.seconds_per_1000 == 1000 * 0.5 / 40  # of making them, whether or not they were kept
        save_examples(path, made, X, {"versions": "1"})
        found = load_examples(path)
        for name in ("images", "rows", "labels"):
            one, same = getattr(found, name), getattr(made, name)
            assert (one.dtype, one.shape, one.tobytes()) == (same.dtype, same.shape, same.tobytes())
        for name in ("attack", "mode", "epsilon", "true_label", "bounded", "likeness", "seconds_per_1000"):
            assert getattr(found, name) == getattr(made, name), name
        assert (found.images.dtype, found.rows.dtype, found.labels.dtype) == (np.float32, np.int64, np.int64)
        assert type(found.true_label) is type(found.bounded) is bool
        assert read_provenance(path)["versions"] == "1"


def spoilt(images: np.ndarray, value: float, place: tuple[int, ...] = (7, 0, 2, 3)) -> np.ndarray:
    changed = images.copy()
    changed[place] = value
    return changed


def test_an_image_outside_the_ball_is_not_written(tmp_path):
    path, images = tmp_path / "test.h5", near(X)
    pixel = X[7, 0, 2, 3]
    edge = np.float32(pixel + EPSILON)
    for value in (pixel + 0.2, pixel - 0.2, np.nextafter(edge, np.float32(2)) + np.float32(1e-7), -1e-6, np.nan):
        with pytest.raises(AssertionError, match=r"test\.h5: an image is outside the ε-ball"):
            save_examples(path, make_examples(X, Y, spoilt(images, value), **HOW), X, {})
    assert not list(tmp_path.iterdir())
    kept = np.arange(40) != 7  # the ball is that of each kept image's own original
    save_examples(path, make_examples(X, Y, spoilt(images, 1), **HOW, keep=kept), X, {})
    with pytest.raises(AssertionError, match="outside"):
        save_examples(path, make_examples(X, Y, images, **HOW, keep=kept), X[::-1], {})


def test_without_clipping_an_image_may_be_anywhere_between_0_and_1(tmp_path):
    path, far = tmp_path / "test.h5", np.random.default_rng(2).random(X.shape, np.float32)
    far[0], far[1] = 0, 1
    save_examples(path, make_examples(X, Y, far, **{**HOW, "bounded": False}), X, {})
    found = load_examples(path)
    assert found.likeness["linf"] > EPSILON
    assert not found.bounded
    assert found.images.tobytes() == far.tobytes()
    for value in (-1e-6, 1.000001, np.nan):
        with pytest.raises(AssertionError, match="outside"):
            save_examples(path, make_examples(X, Y, spoilt(far, value), **{**HOW, "bounded": False}), X, {})


def test_a_check_that_keeps_nothing_is_refused():
    with pytest.raises(InputError, match=r"mis_classification_check of nce: no generated image fools the target"):
        make_examples(X, Y, near(X), **HOW, keep=np.zeros(40, bool))


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path, made = tmp_path / "test.h5", make_examples(X, Y, near(X), **HOW)
    refused(load_examples, path, "does not exist")
    path.write_bytes(b"no HDF5" * 1000)
    refused(load_examples, path, "is not a whole HDF5 file")
    save_examples(path, made, X, {})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refused(load_examples, path, "is damaged or was changed after it was made")
    arrays = {name: getattr(made, name) for name in ("images", "rows", "labels", "classes")}
    notes = {"attack": "nce", "mode": "transfer", "epsilon": 0.1, "true_label": True, "bounded": True}
    notes |= {"linf": 0.1, "l2": 1.0, "ssim": 0.9}
    pace = {"seconds_per_1000": 1.0}
    write_hdf5(path, arrays, notes, pace)
    assert load_examples(path).likeness == {"linf": 0.1, "l2": 1.0, "ssim": 0.9}
    for lacking in notes:
        write_hdf5(path, arrays, {name: value for name, value in notes.items() if name != lacking}, pace)
        refused(load_examples, path, "holds no adversarial images of this workflow")
    for strange, about in ((notes | {"ssim": "high"}, pace), (notes, {}), (notes, {"seconds_per_1000": "fast"})):
        write_hdf5(path, arrays, strange, about)
        refused(load_examples, path, "holds no adversarial images of this workflow")
    write_hdf5(path, {"images": made.images}, notes, pace)
    refused(load_examples, path, "has no data set rows, labels, classes")


# What a network says --------------------------------------------------------------------------------------------------


def sets() -> list[Examples]:
    """One of each kind, of which one is not of all images."""
    made = [
        make_examples(X, Y, near(X), **HOW),
        make_examples(X, Y, near(X, 2), **{**HOW, "attack": "fgsm"}, keep=np.arange(40) % 2 == 0),
        make_examples(X, Y, near(X, 3), **{**HOW, "mode": "wrong-class"}),
    ]
    control = random_signs(X, EPSILON, 0, "test")
    return [*made, make_examples(X, Y, control, **{**HOW, "attack": "random", "mode": "random", "true_label": False})]


def test_the_rows_count_what_the_network_still_gets_right(network):
    lines: list[str] = []
    options, progress = BUDGET.model_copy(update={"points": 17}), Progress("attacks", 10, lines.append)
    rows = evaluate(network, "lrp", X, Y, sets(), options, epsilon=EPSILON, seed=3, progress=progress)
    assert progress.done == len(rows) == 10
    assert (rows["defence"] == "lrp").all()
    kinds = list(zip(rows["attack"], rows["mode"], rows["true_label"], rows["epsilon"], rows["n"], strict=True))
    assert kinds == [
        ("none", "clean", False, 0, 40),
        ("nce", "transfer", True, EPSILON, 40),
        ("fgsm", "transfer", True, EPSILON, 20),
        ("nce", "wrong-class", True, EPSILON, 40),
        ("random", "random", False, EPSILON, 40),
        *((name, "white-box", True, EPSILON, 17) for name in ("fgsm", "pgd", "autoattack")),
        *(("pgd", "white-box", True, radius, 17) for radius in (0.05, 0.3)),
    ]
    shown = [right(network, X, Y), *(right(network, own.images, own.labels) for own in sets())]
    assert rows["right"][:5].tolist() == shown
    assert rows["as_generator"].notna().tolist() == [kind[1] == "wrong-class" for kind in kinds]
    points = attacked(40, 17, 3)
    x, y = X[points], Y[points]
    tries = [(Fgsm(), EPSILON), (Pgd(0.03, 4, 1), EPSILON), (BUDGET.autoattack, EPSILON)]
    tries += [(Pgd(0.03 * radius / EPSILON, 4, 1), radius) for radius in (0.05, 0.3)]
    for (_, row), (how, radius) in zip(rows[5:].iterrows(), tries, strict=True):
        made = attack(network, x, y, how, epsilon=radius, seed=3)
        assert row["right"] == right(network, made, y)
        assert row[["linf", "l2", "ssim"]].tolist() == pytest.approx(similarity(x, made).mean().tolist())
        assert row["seconds_per_1000"] > 0
    assert right(network, X, Y) > 36
    assert rows["right"].iloc[9] < 17 / 3  # the attack works at the largest radius
    clean = rows.iloc[0]
    assert clean[["linf", "l2", "ssim"]].tolist() == [0, 0, 1]
    assert np.isnan(clean["seconds_per_1000"])
    assert rows["seconds_per_1000"][1:5].tolist() == [12.5] * 4
    again = evaluate(network, "lrp", X, Y, sets(), options, epsilon=EPSILON, seed=3)
    pd.testing.assert_frame_equal(again.drop(columns="seconds_per_1000"), rows.drop(columns="seconds_per_1000"))


def test_without_a_radius_nothing_is_attacked(network):
    options = EvaluationOptions(attacks=["fgsm", "pgd", "autoattack"], epsilons=[0])
    rows = evaluate(network, "none", X, Y, [], options, epsilon=0, seed=0)
    assert rows["right"].tolist() == [right(network, X, Y)] * 4
    assert rows["attack"].tolist() == ["none", "fgsm", "pgd", "autoattack"]


@pytest.mark.parametrize(
    ("attacks", "epsilons", "expected"),
    [
        (["fgsm", "pgd"], [0.3, 0.1, 0.2, 0.1], [("fgsm", 0.2), ("pgd", 0.2), ("pgd", 0.1), ("pgd", 0.3)]),
        (["fgsm"], [0.1, 0.2], [("fgsm", 0.2), ("pgd", 0.1), ("pgd", 0.2)]),
        ([], [0.2], [("pgd", 0.2)]),
        (["pgd"], [0.2, 0.2], [("pgd", 0.2)]),
        ([], [], []),
    ],
)
def test_the_curve_has_each_radius_once(attacks, epsilons, expected):
    options = EvaluationOptions(attacks=attacks, epsilons=epsilons)
    assert white_box(options, 0.2) == expected


def test_fewer_points_are_among_more_and_follow_from_the_seed():
    all_of_them = np.arange(100)
    assert attacked(100, None, 0).tolist() == attacked(100, 100, 0).tolist() == all_of_them.tolist()
    assert attacked(100, 1000, 0).tolist() == all_of_them.tolist()
    before: set[int] = set()
    for points in (1, 5, 20, 99):
        chosen = attacked(100, points, 7)
        assert chosen.tolist() == sorted(set(chosen))
        assert len(chosen) == points
        assert before <= set(chosen.tolist())
        before = set(chosen.tolist())
    assert attacked(100, 20, 7).tolist() == attacked(100, 20, 7).tolist() != attacked(100, 20, 8).tolist()


# The table ------------------------------------------------------------------------------------------------------------


def run(rows: list[tuple], n: int = 100, radius: float = 0.3) -> pd.DataFrame:
    """Rows as `evaluate` gives them: defence, attack, mode, right."""
    found = pd.DataFrame(rows, columns=["defence", "attack", "mode", "right"]).assign(n=n)
    found["true_label"] = found["mode"].isin(["transfer", "white-box"])
    found["epsilon"] = np.where(found["mode"] == "clean", 0.0, radius)
    measured = {"linf": 0.3, "l2": 5.0, "ssim": 0.5, "bounded": True}
    measured["as_generator"] = np.where(found["mode"] == "wrong-class", 20.0, np.nan)
    return found.assign(seconds_per_1000=np.where(found["mode"] == "clean", np.nan, 2.0), **measured)


def cells(clean: int, transfer: int, white: int, defence: str = "none") -> list[tuple]:
    return [
        (defence, "none", "clean", clean),
        (defence, "nce", "transfer", transfer),
        (defence, "nce", "wrong-class", 70),
        (defence, "pgd", "white-box", white),
    ]


def test_a_row_is_of_all_seeds():
    runs = [run(cells(90, 40, 10)), run(cells(80, 50, 0, "nce"))]
    more = [run(cells(94, 44, 14)).assign(seconds_per_1000=4.0), run(cells(80, 20, 4, "nce"))]
    table = tabulate([*runs, *more], "digits28", 0.9)
    keys = ["defence", "attack", "mode"]
    in_order = pd.concat(runs)[keys].values.tolist()
    assert table[keys].values.tolist() == in_order  # of their first appearance
    row = table.set_index(keys).loc[("none", "nce", "transfer")]
    assert row["robust_accuracy"] == pytest.approx(0.42)
    assert (row["seeds"], row["n"], row["dataset"], row["true_label"]) == (2, 100, "digits28", True)
    low, high = stats.beta.ppf([0.05, 0.95], [42, 43], [59, 58])
    assert row[["robust_accuracy_low", "robust_accuracy_high"]].tolist() == pytest.approx([low, high])
    half = stats.t.ppf(0.95, 1) * np.std([0.40, 0.44], ddof=1) / np.sqrt(2)
    spread = row[["robust_accuracy_seed_low", "robust_accuracy_seed_high"]].tolist()
    assert spread == pytest.approx([0.42 - half, 0.42 + half])
    assert row["seconds_per_1000"] == 3
    assert row[["linf", "l2", "ssim"]].tolist() == [0.3, 5.0, 0.5]
    single = tabulate(runs, "digits28", 0.9)
    assert (single["seeds"] == 1).all()
    assert single[["robust_accuracy_seed_low", "robust_accuracy_seed_high"]].isna().all(axis=None)
    np.testing.assert_array_equal(single["robust_accuracy"], pd.concat(runs)["right"] / 100)


def test_radii_and_whether_the_label_was_used_are_rows_of_their_own():
    rows = [
        run([("none", "none", "clean", 90)]),
        *(run([("none", "pgd", "white-box", 9)], radius=r) for r in (0.1, 0.3)),
    ]
    rows += [run([("none", "fgsm", "transfer", 5)]), run([("none", "fgsm", "transfer", 7)]).assign(true_label=False)]
    table = tabulate(rows, "digits28", 0.95)
    assert table["epsilon"].tolist() == [0, 0.1, 0.3, 0.3, 0.3]
    assert (table["seeds"] == 1).all()


@pytest.mark.parametrize(("left", "failed"), [(45, False), (46, True), (90, True), (0, False)])
def test_an_attack_that_leaves_the_target_more_than_half_has_failed(left, failed):
    """… in every row where its images are shown, and nowhere else."""
    runs = [run([*cells(90, left, 10), ("none", "fgsm", "transfer", 3)]), run(cells(80, 1, 0, "nce"))]
    table = tabulate(runs, "digits28", 0.95)
    marked = table[table["note"] == "attack failed"]
    where = [(defence, "nce", mode) for defence in ("none", "nce") for mode in ("transfer", "wrong-class")]
    expected = set(where) if failed else set()
    assert set(marked[["defence", "attack", "mode"]].itertuples(index=False, name=None)) == expected
    assert set(table["note"]) <= {"", "attack failed"}


@pytest.mark.parametrize(("left", "beaten"), [(19, False), (20, True), (21, True)])
def test_an_attack_that_random_noise_equals_is_marked(left, beaten):
    noise = ("none", "random", "random", 20)
    table = tabulate([run([*cells(90, left, 10), noise])], "digits28", 0.95)
    rows = table[table["attack"] == "nce"]
    assert (rows["note"] == ("no better than random" if beaten else "")).all()
    assert (table.loc[table["attack"] != "nce", "note"] == "").all()
    assert rows.set_index("mode").loc["wrong-class", "as_generator"] == 0.2
    loose = tabulate([run(cells(90, 50, 10)).assign(bounded=lambda t: t["attack"] != "nce")], "digits28", 0.95)
    assert set(loose.loc[loose["attack"] == "nce", "note"]) == {"attack failed; not within epsilon"}


def test_two_classes_have_no_dlr_loss():
    options = EvaluationOptions()
    assert for_classes(options, 3) is options
    assert for_classes(options, 2).autoattack.versions == ["apgd-ce"]
    alone = EvaluationOptions(autoattack={"versions": ["apgd-dlr"]})
    with pytest.raises(InputError, match="apgd-dlr needs at least 3 classes"):
        for_classes(alone, 2)


def test_over_seeds_the_mean_decides_whether_an_attack_failed():
    def note(first, second):
        table = tabulate([run(cells(90, first, 10)), run(cells(90, second, 10))], "digits28", 0.95)
        return table.loc[table["mode"] == "transfer", "note"].tolist()

    assert note(20, 60) == [""]
    assert note(40, 60) == ["attack failed"]


# Targets --------------------------------------------------------------------------------------------------------------

DENSE = Kind("dgn_dense", (1, 28, 28), 10)


def dense_file(path, activation="relu", sizes=(784, 30, 30, 30, 30, 30, 10)):
    arrays = dense_net(sizes)
    layers = [dense(name, len(bias), activation) for name, (_, bias) in arrays.items()]
    layers[-1]["config"]["activation"] = "softmax"
    side = round(sizes[0] ** 0.5)
    first = [other("InputLayer", batch_shape=[None, side, side]), other("Flatten")]
    return sequential(path, [*first, *layers], arrays), arrays


def test_a_target_comes_out_of_a_keras_file(tmp_path):
    path, arrays = dense_file(tmp_path / "target.h5")
    found = own_target(path, DENSE)
    assert not found.training
    kernels = [array for array in state(found).values() if array.ndim == 2]
    for kernel, (expected, _) in zip(kernels, arrays.values(), strict=True):
        np.testing.assert_array_equal(kernel, expected.T)
    x = np.random.default_rng(0).random((5, 1, 28, 28), np.float32)
    y = x.reshape(5, 784)
    for number, (kernel, bias) in enumerate(arrays.values()):
        y = y @ kernel + bias
        y = np.maximum(y, 0) if number < 5 else y
    with torch.no_grad():
        np.testing.assert_allclose(found(torch.from_numpy(x)).numpy(), y, atol=1e-4)
    layers, arrays = conv_target()
    found = own_target(sequential(path, layers, arrays), Kind("dgn_conv", (3, 32, 32), 10))
    assert sum(parameter.numel() for parameter in found.parameters()) == 122_570


def strided(layers):
    """As many weights as dgn_conv, but a convolution of stride 2 in the place of a pooling."""
    layers = [layer for layer in layers if layer["config"]["name"] != "p1"]
    layers[0] = conv("c1", 32, 3, strides=[2, 2], batch_input_shape=[None, 32, 32, 3])
    return layers


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (lambda path: dense_file(path)[0], Kind("dgn_conv", (1, 28, 28), 10)),
        (lambda path: dense_file(path)[0], Kind("dgn_dense", (1, 28, 28), 9)),
        (lambda path: dense_file(path)[0], Kind("dgn_dense", (1, 32, 32), 10)),
        (lambda path: dense_file(path, sizes=(784, 30, 30, 10))[0], DENSE),
        (lambda path: dense_file(path, sizes=(784, 30, 30, 30, 31, 30, 10))[0], DENSE),
        (lambda path: dense_file(path, activation="linear")[0], DENSE),
        (lambda path: sequential(path, *conv_target()), DENSE),
        (lambda path: sequential(path, strided(conv_target()[0]), conv_target()[1]), Kind("dgn_conv", (3, 32, 32), 10)),
    ],
    ids=["conv", "classes", "size", "fewer", "width", "linear", "dense", "stride"],
)
def test_a_target_of_another_architecture_is_refused(tmp_path, file, kind):
    path = file(tmp_path / "target.h5")
    sentence = f"target.h5 has other layers than dgn.target.model, {kind.model}, for images of "
    with pytest.raises(InputError, match=sentence):
        own_target(path, kind)


def test_files_that_are_no_keras_model_are_refused(tmp_path):
    other_files_refused(lambda path: own_target(path, DENSE), tmp_path / "target.h5")


class Says(nn.Module):
    """Says the class that stands in the first pixel."""

    def forward(self, x):
        return nn.functional.one_hot((x[:, 0, 0, 0] * 10).round().long(), 10).float()


def test_a_target_must_beat_chance_by_ten_points():
    for classes, hits, refusal in ((10, 199, True), (10, 200, False), (4, 349, True), (4, 350, False)):
        labels = np.arange(1000) % classes
        said = np.where(np.arange(1000) < hits, labels, (labels + 1) % classes)
        images = np.full((1000, 1, 2, 2), 0.5, np.float32)
        images[:, 0, 0, 0] = said / np.float32(10)
        if refusal:
            sentence = rf"right on {hits / 10:.1f}% of its training images, .* by chance \({100 / classes:.1f}%\)"
            with pytest.raises(InputError, match=sentence):
                check_target(Says(), images, labels, classes, "cpu")
        else:
            assert check_target(Says(), images, labels, classes, "cpu") == hits / 1000


def test_the_first_repetition_has_the_experiments_seed_and_the_others_their_own():
    assert [repeat_seed(seed, 0) for seed in (0, 1, 7)] == [0, 1, 7]
    seeds = [repeat_seed(seed, repeat) for seed in range(5) for repeat in range(5)]
    assert len(set(seeds)) == 25
    assert repeat_seed(3, 2) == repeat_seed(3, 2)
    assert all(0 <= seed < 2**64 for seed in seeds)


# Options --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epsilon": -0.1}, r"dgn\.epsilon is -0\.1"),
        ({"attacks": [{"attacks": "cw"}]}, r"dgn\.attacks\.0\.attacks is 'cw'.*'fgsm' or 'pgd'"),
        ({"evaluation": {"attacks": ["square"]}}, r"dgn\.evaluation\.attacks\.0 is 'square'"),
        ({"evaluation": {"epsilons": [-1]}}, r"dgn\.evaluation\.epsilons\.0 is -1"),
        ({"evaluation": {"points": 0}}, r"dgn\.evaluation\.points is 0"),
        ({"generators": [{"custom_loss": "nce", "custom_loss_constant": 0.5}]}, "nce has no constant; leave it out"),
        ({"generators": [{"custom_loss": "lrp"}, {"custom_loss": "lrp"}]}, "lrp stands twice"),
        ({"attacks": [{"attacks": "fgsm"}, {"attacks": "fgsm"}]}, "fgsm stands twice"),
        ({"generators": [{"custom_loss": "lrp", "k": 0}]}, r"dgn\.generators\.0\.k is 0"),
        ({"generators": [{"custom_loss": "nce", "adv_training_type": "default"}]}, "generators cannot do"),
        ({"attacks": [{"attacks": "fgsm", "mode": "only"}]}, r"dgn\.attacks\.0\.mode is 'only'"),
        ({"generator": []}, r"did you mean dgn\.generators\?"),
    ],
)
def test_bad_options_are_named(options, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        parse({"dgn": options})
    assert "\n" not in str(caught.value)


def test_modes_say_which_columns_and_rows_there_are():
    options = DgnOptions(
        generators=[{"custom_loss": "nce"}, {"custom_loss": "lrp"}],
        attacks=[{"attacks": "fgsm", "mode": "only_attack"}, {"attacks": "pgd", "mode": "only_adv_training"}],
    )
    assert dgn_runs.attacks(options) == ["nce", "lrp", "fgsm"]
    assert dgn_runs.defences(options) == ["nce", "lrp", "pgd"]
    assert dgn_runs.shown(options) == ["nce/test", "lrp/test", "fgsm/test", "nce/wrong", "lrp/wrong", "random/test"]
