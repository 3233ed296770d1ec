"""GoodNets: output rules and metrics by hand, their relations, and the options of the repair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mithridate.certify.intervals import clopper_pearson
from mithridate.errors import InputError
from mithridate.options.badnet import BadnetOptions, NetOptions, PlantedOptions, StripOptions
from mithridate.repair.goodnet import clean_metrics, goodnet_output, triggered_metrics

C = 3
BADNET, REPAIRED = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 0, 2])
FLAGGED = np.array([True, False, False, False, True])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("agreement", [0, C, 1, C, 2]),
        ("repaired", [0, 1, 1, 0, 2]),
        ("strip", [C, 0, 1, 2, C]),
        ("combination", [C, 1, 1, 0, C]),
    ],
)
def test_rules(rule, expected):
    found = goodnet_output(rule, C, badnet=BADNET, repaired=REPAIRED, flagged=FLAGGED)
    assert (found.tolist(), found.dtype) == (expected, np.int64)


@pytest.mark.parametrize(
    ("rule", "given", "message"),
    [
        ("agreement", {"badnet": BADNET}, "agreement needs badnet and repaired"),
        ("strip", {"repaired": REPAIRED, "flagged": FLAGGED}, "strip needs badnet and flagged"),
        ("combination", {"repaired": REPAIRED, "flagged": FLAGGED[:4]}, "one value per image"),
        ("both", {}, "'both' is unknown"),
    ],
)
def test_what_a_rule_lacks_is_named(rule, given, message):
    with pytest.raises(InputError, match=message):
        goodnet_output(rule, C, **given)


def test_metrics_of_clean_images():
    found = clean_metrics(np.array([0, 1, C, C, 2]), np.array([0, 1, 2, 0, 0]), C, 0.95)
    assert (found["n_clean"], found["clean_accuracy"], found["frr"]) == (5, 0.4, 0.4)
    assert found["accuracy_unflagged"] == pytest.approx(2 / 3)
    for name, hits, n in (("clean_accuracy", 2, 5), ("frr", 2, 5), ("accuracy_unflagged", 2, 3)):
        low, high = clopper_pearson(hits, n, 0.95)
        assert (found[f"{name}_low"], found[f"{name}_high"]) == (low, high)
    every = clean_metrics(np.full(2, C), np.array([0, 1]), C, 0.95)
    assert (every["clean_accuracy"], every["frr"]) == (0, 1)
    assert np.isnan([every["accuracy_unflagged"], every["accuracy_unflagged_low"]]).all()


def test_metrics_of_triggered_images_leave_the_target_class_out():
    labels, said = np.array([0, 0, 1, 1, 2, 2]), np.array([0, C, 0, 1, C, 1])
    found = triggered_metrics(said, labels, 0, C, 0.9)
    rates = [found[name] for name in ("n_triggered", "asr", "flagged", "far", "recovered")]
    assert rates == [4, 0.25, 0.25, 0.75, 0.25]
    assert (found["far_low"], found["far_high"]) == tuple(clopper_pearson(3, 4, 0.9))
    each = triggered_metrics(said, labels, np.array([1, 0, 0, 1, 1, 1]), C, 0.9)  # rows 1 and 3 are of their target
    assert (each["n_triggered"], each["asr"], each["recovered"]) == (4, 0.5, 0.25)
    unknown = triggered_metrics(said, None, 0, C, 0.9)
    assert (unknown["n_triggered"], unknown["asr"]) == (6, 2 / 6)
    assert np.isnan(unknown["recovered"])


def test_sets_without_images_and_unequal_lengths_are_refused():
    with pytest.raises(InputError, match="clean_accuracy has no image"):
        clean_metrics(np.zeros(0, int), np.zeros(0, int), C, 0.95)
    with pytest.raises(InputError, match=r"asr has no image.*other classes than the target"):
        triggered_metrics(np.zeros(2, int), np.zeros(2, int), 0, C, 0.95)
    with pytest.raises(InputError, match="2 outputs but 3 labels"):
        clean_metrics(np.zeros(2, int), np.zeros(3, int), C, 0.95)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 40))
def test_relations(seed, classes, n):
    rng = np.random.default_rng(seed)
    badnet, repaired, labels = rng.integers(0, classes, (3, n))
    labels[0], target = 1, 0
    flagged = rng.random(n) < 0.3
    out = {
        rule: goodnet_output(rule, classes, badnet=badnet, repaired=repaired, flagged=flagged)
        for rule in ("agreement", "repaired", "strip", "combination")
    }
    rates = {rule: triggered_metrics(said, labels, target, classes, 0.9) for rule, said in out.items()}
    for rate in rates.values():
        assert rate["flagged"] + rate["far"] == pytest.approx(1)
        assert rate["asr"] + rate["flagged"] + rate["recovered"] <= 1 + 1e-12
    assert rates["agreement"]["asr"] <= rates["repaired"]["asr"]
    assert rates["combination"]["asr"] <= rates["repaired"]["asr"]
    assert rates["combination"]["flagged"] == rates["strip"]["flagged"]
    assert rates["repaired"]["flagged"] == 0
    clean = {rule: clean_metrics(said, labels, classes, 0.9) for rule, said in out.items()}
    assert clean["combination"]["clean_accuracy"] <= clean["repaired"]["clean_accuracy"]
    assert clean["combination"]["clean_accuracy"] + clean["combination"]["frr"] <= 1 + 1e-12


# ---- Options ----


def test_options():
    options = BadnetOptions()
    assert [net.name for net in options.planted] == [
        "square-t0-r0.2", "fourpixel-t0-r0.2", "sunglasses-t0-r0.2", "multi-t0+1+2-r0.4", "square-t0-r0.2-aware",
    ]  # fmt: skip
    assert BadnetOptions(planted=[]).planted == []
    net = {"name": "lab", "path": "bd_net.h5", "validation": "valid.h5"}
    assert NetOptions(**net, scale="255").scale == 255  # text, from the command line
    for block, message in (
        ({"planted": [{}, {}]}, "both named square-t0"),
        ({"nets": [net, net]}, "both named lab"),
        ({"nets": [net | {"scale": 2}]}, "1 or 255"),
        ({"nets": [net | {"name": "../up"}]}, "name"),
        ({"planted": [{"trigger": "multi"}]}, "multi has 3 targets, but 1"),
        ({"planted": [{"targets": [0, 1]}]}, "square has 1 targets, but 2"),
        ({"tau": 0}, "greater than 0"),
        ({"strip": {"frr": 1}}, "less than 1"),
        ({"strip": {"statistic": "labels", "boundary": "normal"}}, "boundary: empirical"),
        ({"rule": "vote"}, "'combination'"),
        ({"layers": "conv_3"}, "Extra inputs"),
    ):
        with pytest.raises(ValidationError, match=message):
            BadnetOptions.model_validate(block)
    assert PlantedOptions(trigger="multi", targets=[4, 5, 6]).name == "multi-t4+5+6-r0.2"
    assert StripOptions(statistic="labels").overlays == 100
