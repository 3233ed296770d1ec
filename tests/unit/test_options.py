"""Options: what is refused and how, and that the generated files are in step with the models."""

from pathlib import Path

import pytest
import yaml

from mithridate.certify.methods import METHODS
from mithridate.data.triggers import PATTERNS
from mithridate.errors import InputError
from mithridate.options import triggers
from mithridate.options.certificates import CERTIFICATES
from mithridate.options.document import documents
from mithridate.options.root import Options, parse

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["config.yaml", "schema.json", "README.md"])
def test_generated_files_are_in_step_with_the_models(name):
    assert (ROOT / "config" / name).read_text() == documents()[name], "out of sync, run `make config`"


def test_config_yaml_is_the_defaults():
    assert parse(yaml.safe_load((ROOT / "config" / "config.yaml").read_text())) == Options()


@pytest.mark.parametrize("overlay", sorted(path.name for path in (ROOT / "config").glob("*.yaml")))
def test_every_overlay_is_valid(overlay):
    def merge(base, over):
        for key, value in over.items():
            base[key] = merge(base.get(key, {}), value) if isinstance(value, dict) else value
        return base

    parse(merge(Options().model_dump(mode="json"), yaml.safe_load((ROOT / "config" / overlay).read_text())))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"dpa": {"kk": 3}}, r"key dpa\.kk is unknown; did you mean dpa\.k\?"),
        ({"nonsense": 1}, "key nonsense is unknown; known here: dataset, data"),
        ({"dpa": {"k": [0]}}, r"key dpa\.k\.0 is 0: input should be greater than or equal to 1"),
        ({"dpa": {"k": []}}, r"key dpa\.k is \[\]"),
        ({"dpa": {"k": "many"}}, r"key dpa\.k\.0 is 'many': input should be a valid integer"),
        ({"dpa": {"k": 10**11}}, "less than or equal to 1000000"),
        ({"dpa": {"training": {"learning_rate": float("inf")}}}, "finite number"),
        ({"dpa": {"k": [5, 5]}}, "stands twice"),
        ({"dpa": {"methods": ["dap"]}}, r"dpa\.methods\.0 is 'dap': input should be 'dpa', 'runoff', 'finite'"),
        ({"dpa": 3}, "key dpa is 3"),
        ({"dpa": {"model": "rsnet"}}, r"key dpa\.model is 'rsnet'"),
        ({"dpa": {"training": {"epochs": 3}}}, "exactly one of epochs and steps"),
        ({"dpa": {"training": {"decay": "step"}}}, "counts epochs"),
        ({"dpa": {"training": {"learning_rate": 0}}}, "greater than 0"),
        ({"seed": "x"}, "key seed is 'x'"),
        ({"seed": -1}, "key seed is -1"),
        ({"device": "tpu"}, "key device is 'tpu': input should be 'auto', 'cpu' or 'cuda'"),
        ({"confidence": 95}, "less than 1"),
        ({"dataset": "imagenet"}, "'imagenet' is not one of digits.*data.source: npz, images or npy"),
        ({"dataset": "mine", "data": {"source": "npz"}}, "data.path"),
        ({"data": {"path": "x.npz"}}, "data.path"),
        ({"dataset": "../up"}, "key dataset"),
    ],
)
def test_bad_configurations_get_one_clear_sentence(config, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        parse(config)
    assert "\n" not in str(caught.value)


def test_every_name_has_its_function():
    assert list(METHODS) == list(CERTIFICATES)
    assert list(PATTERNS) == triggers.PATTERNS


def test_numbers_may_come_as_text_from_the_command_line():
    options = parse({"seed": "7", "dpa": {"k": ["5", "10"], "training": {"epochs": "2", "steps": None}}})
    assert (options.seed, options.dpa.k, options.dpa.training.epochs) == (7, [5, 10], 2)
    assert parse({"dpa": {"k": 5}}).dpa.k == parse({"dpa": {"k": "5"}}).dpa.k == [5]
