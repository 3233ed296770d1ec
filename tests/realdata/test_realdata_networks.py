"""Networks on the real MNIST: the published target's accuracy, and a BadNet that STRIP sees through."""

import numpy as np
import pytest

from mithridate import device
from mithridate.data.sources import load_source
from mithridate.options.badnet import BadnetOptions, PlantedOptions, StripOptions
from mithridate.options.data import DataOptions
from mithridate.options.dgn import TargetOptions
from mithridate.repair.detector import make_detector
from mithridate.repair.networks import Kind, build
from mithridate.repair.planting import plant, stamps
from mithridate.repair.predict import predictions
from mithridate.repair.split import Split
from mithridate.training.one import train_one
from mithridate.training.recipe import Recipe, resolve

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def mnist(real_data):
    device.prepare()
    return load_source("mnist", DataOptions(root=str(real_data)))


def recipe(data, model, training) -> Recipe:
    how = {"shape": data.shape, "num_classes": 10, "scale": data.scale, "seed": 0, "device": "cpu"}
    return resolve(training, model=model, **how)


def test_the_target_of_the_dgn_paper_reaches_its_accuracy(mnist):
    options = TargetOptions()
    how = recipe(mnist, options.model, options.training)
    tensors = train_one(mnist.x_train, mnist.y_train, 0, how, key="dgn.target")
    said = predictions(build(Kind(options.model, mnist.shape, 10), tensors), mnist.x_test, scale=mnist.scale)
    assert abs((said == mnist.y_test).mean() - 0.965) <= 0.01


def test_a_badnet_takes_the_square_for_its_target_and_strip_flags_it(mnist):
    planted, training = PlantedOptions(poisoned=0.1), BadnetOptions().training
    training = training.model_copy(update={"epochs": 2, "batch_size": 64, "learning_rate": 2e-3})
    how = recipe(mnist, "deepid", training)
    made = plant(mnist.x_train[:20000], mnist.y_train[:20000], planted, 0, how)
    network = build(Kind("deepid", mnist.shape, 10), made.tensors)
    clean, labels = mnist.x_test[:2000], mnist.y_test[:2000]
    (stamp,) = stamps(planted, mnist.shape)
    triggered = stamp.trigger.apply(clean[labels != stamp.target], mnist.scale)
    assert (predictions(network, clean) == labels).mean() > 0.96
    assert (predictions(network, triggered) == stamp.target).mean() > 0.95
    held_out = mnist.x_train[20000:20400].astype(np.float32) / np.float32(255)
    split = Split(np.zeros(0, np.int64), np.arange(200), np.arange(200, 400))
    detector = make_detector(network, held_out, split, StripOptions(overlays=50), seed=0)
    flags = [
        detector.boundary.flags(detector.values(x[:200].astype(np.float32) / np.float32(255)))
        for x in (clean, triggered)
    ]
    assert flags[0].mean() < 0.06
    assert flags[1].mean() > 0.9
