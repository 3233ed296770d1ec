"""Generated configurations: each wrong one is answered with one sentence that names the key, each valid one is taken."""

import copy
import json
import math
import re
from collections.abc import Iterator
from functools import reduce
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mithridate.cli import main
from mithridate.errors import InputError
from mithridate.options.reading import check
from mithridate.options.root import Options, parse

SCHEMA = Options.model_json_schema()
DEFAULTS = Options().model_dump(mode="json")
Path = tuple[str | int, ...]
# Keys that other keys have a say in: no value of theirs is valid whatever the others are.
COUPLED = re.compile(
    r"^(dataset|data\..*|.*\.(model|other_model|layer|own|path)|.*training\.(epochs|steps|decay|decay_epochs)"
    r"|(smoothing|rab)\.training\..*|.*\.(target|targets|sources|trigger|classes)|attacks\.0\.d|dpa\.(d|methods)"
    r"|smoothing\.certify\..*|smoothing\.epsilon|rab\.(models|attacks\.0\.poisoned)|attacks\.0\.poisoned"
    r"|dgn\.(generators|attacks)\..*|badnet\.(strip\.(boundary|statistic)|planted\.0\.pruning_aware))$"
)


def resolved(entry: dict[str, Any]) -> dict[str, Any]:
    return SCHEMA["$defs"][entry["$ref"].rsplit("/", 1)[1]] if "$ref" in entry else entry


def walk(entry: dict[str, Any], value: Any, path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every key and block with its schema, of lists of blocks the first."""
    yield path, entry
    for key, inner in entry.get("properties", {}).items():
        inner, own = resolved(inner), value[key]
        if inner.get("type") == "array" and "$ref" in inner["items"] and own:
            yield from walk(resolved(inner["items"]), own[0], (*path, key, 0))
        else:
            yield from walk(inner, own, (*path, key))


PLACES = dict(walk(SCHEMA, DEFAULTS))
BLOCKS = [path for path, entry in PLACES.items() if "properties" in entry]
LEAVES = {path: entry for path, entry in PLACES.items() if "properties" not in entry}


def dotted(path: Path) -> str:
    return ".".join(map(str, path))


def changed(path: Path, value: Any) -> dict[str, Any]:
    """The defaults with another value at one place."""
    config = copy.deepcopy(DEFAULTS)
    reduce(lambda block, key: block[key], path[:-1], config)[path[-1]] = value
    return config


def options_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return [resolved(one) for one in entry.get("anyOf", [entry])]


def nullable(entry: dict[str, Any]) -> bool:
    return any(one.get("type") == "null" for one in options_of(entry))


def wrong(entry: dict[str, Any], random: Random) -> Any:
    """A value that the schema does not allow."""
    kinds = [one for one in options_of(entry) if one.get("type") != "null"]
    candidates: list[Any] = [{"a": 1}, [[{}]], [{}], {}]
    if not nullable(entry):
        candidates += [None, "null", ""]
    if len(kinds) == 1:
        one = kinds[0]
        match one.get("type"):
            case _ if "enum" in one or "const" in one:
                candidates += ["nonsense", 3, True, str(one.get("enum", ["x"])[0]) + "x", "x" * 5000]
            case "integer":
                candidates += [
                    "many",
                    1.5,
                    math.nan,
                    math.inf,
                    -math.inf,
                    10**400,
                    -(10**30),
                    [[1]],
                    "1e3",
                    "0x1",
                    "1;2",
                ]
                candidates += [one["minimum"] - 1, one["maximum"] + 1, True, False, "yes", b"x"]
            case "number":
                low, high = (
                    one.get("minimum", one.get("exclusiveMinimum")),
                    one.get("maximum", one.get("exclusiveMaximum")),
                )
                candidates += ["many", math.nan, math.inf, -math.inf, "nan", "inf", True, [], "1,5"]
                candidates += [] if low is None else [low - 1, -1e308] + [low] * ("exclusiveMinimum" in one)
                candidates += [] if high is None else [high + 1, 1e308] + [high] * ("exclusiveMaximum" in one)
            case "boolean":
                candidates += ["perhaps", 7, [], 0.5, "truee"]
            case "string":
                candidates += [
                    5,
                    1.5,
                    [],
                    ["text"],
                    True,
                    *(["a b", "../up", "a\nb", "ü", "x" * 5000] if "pattern" in one else []),
                ]
            case "array" if "items" in one:
                inner = wrong(one["items"], random)
                candidates += [[inner]] * 6 + [5 if one["items"].get("type") == "string" else "nonsense"]
                candidates += [[]] * ("minItems" in one)
    return random.choice(candidates)


def misspelt(key: str, random: Random) -> str:
    """Two letters exchanged, one left out, doubled, or replaced; or other capitals."""
    at = random.randrange(1, len(key) - 1)
    ways = [
        key[: at - 1] + key[at] + key[at - 1] + key[at + 1 :],
        key[:at] + key[at + 1 :],
        key[:at] + key[at] + key[at:],
    ]
    ways += [key[:at] + "x" + key[at + 1 :], key.upper(), key.replace("_", "-")]
    return random.choice(ways)


def bad_configuration(number: int) -> tuple[Any, list[str]]:
    """A wrong configuration and what its sentence must hold."""
    random = Random(number)
    while True:
        kind = random.choice(["near", "far", "elsewhere", "value", "value", "value", "value", "block"])
        if kind in ("value", "block"):
            path = random.choice(list(LEAVES) if kind == "value" else BLOCKS[1:])
            value = (
                wrong(LEAVES[path], random) if kind == "value" else random.choice([3, "k: 3", [], None, [1], True, 1.5])
            )
            if value == reduce(lambda block, key: block[key], path, DEFAULTS):
                continue
            return changed(path, value), [str(next(part for part in reversed(path) if isinstance(part, str)))]
        block = random.choice(BLOCKS)
        known = list(PLACES[block]["properties"])
        if kind == "near":
            right = random.choice(known)
            key = misspelt(right, random) if len(right) > 4 else right.upper()
            if key not in known:
                return changed((*block, key), 1), [
                    f"{dotted((*block, key))} is unknown; did you mean {dotted((*block, ''))}"
                ]
        elif kind == "far":
            key = random.choice(
                ["qqqq", "zzz_zzz", "a b", "a\nb", "ключ", "x" * 3000, "", "__use_yte__", "dpa.k", "k=3"]
            )
            return changed((*block, key), 1), ["is unknown; "]
        else:
            other = random.choice(list(LEAVES))[-1]
            if other not in known:
                return changed((*block, other), 1), [f"{other} is unknown; did you mean "]


@pytest.mark.parametrize("number", range(200))
def test_generated_wrong_configurations_get_one_clear_sentence(number):
    config, parts = bad_configuration(number)
    with pytest.raises(InputError) as caught:
        parse(config)
    sentence = str(caught.value)
    assert sentence.isprintable(), sentence
    assert sentence.startswith("configuration"), sentence
    assert sentence.endswith((".", "?")), sentence
    assert len(sentence) < 900, sentence
    assert sentence.count("(config/README.md") <= 5
    for part in parts:
        assert part in sentence, sentence
    assert not re.search(r"constrained|pydantic|Options|instance of|dictionary|ValueError", sentence), sentence


MINE = {"dataset": "mine", "data": {"source": "npz", "path": "mine.npz"}}
CONTRADICTIONS = {
    "epochs and steps": ({"dpa": {"training": {"epochs": 3}}}, "dpa.training: exactly one of epochs and steps"),
    "no epochs, no steps": ({"dpa": {"training": {"steps": None}}}, "dpa.training: exactly one of epochs and steps"),
    "decay by epochs": ({"dpa": {"training": {"decay": "step"}}}, "dpa.training: decay: step counts epochs"),
    "no such class": ({"attacks": [{"target": 10}]}, "attacks: digits has no class 10; its last is 9"),
    "no such source": ({"attacks": [{"sources": [10]}]}, "attacks: digits has no class 10"),
    "no such class of RAB": ({"rab": {"classes": [1, 10], "attacks": []}}, "rab.classes: digits has no class 10"),
    "no such victim": ({"smoothing": {"target": 10}}, "smoothing.target: digits has no class 10"),
    "no such planted target": ({"badnet": {"planted": [{"targets": [10]}]}}, "badnet.planted: digits has no class 10"),
    "target is a source": ({"attacks": [{"target": 3, "sources": [3]}]}, "attacks.0: target 3 is among the sources"),
    "target outside the task": ({"rab": {"classes": [2, 3]}}, "rab.attacks: target and sources [0] are not all among"),
    "nothing poisoned": ({"attacks": [{"poisoned": [0]}]}, "only 0 images are poisoned"),
    "picture without path": ({"attacks": [{"trigger": "image"}]}, "attacks.0: path goes with trigger: image"),
    "path without picture": ({"attacks": [{"path": "x.png"}]}, "attacks.0: path goes with trigger: image"),
    "twice the same attack": ({"attacks": [{}, {}]}, "two attacks are both named fourpixel-d1-t0"),
    "twice the same k": ({"dpa": {"k": [5, 5]}}, "dpa.k is [5, 5]: the same value stands twice"),
    "no certificate": ({"dpa": {"methods": ["finite"], "d": [1]}, "attacks": []}, "dpa.methods: none of finite certifies"),
    "attack without ensemble": ({"attacks": [{"d": [7]}]}, "attacks: for d = [7] there is no clean ensemble"),
    "own data without a path": ({"dataset": "mine", "data": {"source": "npz"}}, "data.path goes with data.source"),
    "a path for built-in data": ({"data": {"path": "x.npz"}}, "data.path goes with data.source"),
    "near miss of a data set": ({"dataset": "mnsit"}, "dataset: 'mnsit' is not one of"),
    "near miss is named": ({"dataset": "mnsit"}, "did you mean mnist?"),
    "names for npz": ({**MINE, "data": {**MINE["data"], "classes": ["a", "b"]}}, "data: classes as a list of names goes with"),
    "one class": ({**MINE, "data": {**MINE["data"], "classes": 1}}, "data.classes is 1: give a number from 2 to 4096"),
    "one name twice": ({"data": {"classes": ["a", "a"]}}, "data.classes is ['a', 'a']: give a number from 2"),
    "two channels": ({"data": {"channels": 2}}, "data: channels is 1 or 3"),
    "augmented RAB": ({"rab": {"training": {"augmentation": {"flip": True}}}}, "rab.training: augmentation must be off"),
    "one network of RAB": ({"rab": {"models": 1}}, "rab.models is 1: one network certifies nothing"),
    "too few noises": ({"smoothing": {"certify": {"n": 5}}}, "smoothing: certify.n: 5 noises certify nothing"),
    "stop out of reach": ({"smoothing": {"certify": {"sequential": True, "stop_radius": 9}}}, "certify.stop_radius: 9 is out of reach"),
    "no held-out images": ({"data": {"validation_fraction": 0}}, "data.validation_fraction is 0, but"),
    "same model twice": ({"smoothing": {"other_model": "smoothing_digits"}}, "smoothing: other_model is the same as model"),
    "tiny change": ({"smoothing": {"epsilon": 1e-13}}, "smoothing.epsilon is 1e-13: give 0 or at least 1e-06"),
    "three targets": ({"badnet": {"planted": [{"trigger": "multi"}]}}, "badnet.planted.0: trigger: multi has 3 targets"),
    "twice the same net": ({"badnet": {"planted": [{}, {}]}}, "two networks are both named square-t0-r0.2"),
    "a net without a path": ({"badnet": {"nets": [{"name": "a"}]}}, "badnet.nets.0.path is missing; give it"),
    "counts are not normal": ({"badnet": {"strip": {"statistic": "labels", "boundary": "normal"}}}, "badnet.strip: statistic: labels"),
    "key without effect": ({"dgn": {"generators": [{"custom_loss": "nce", "k": 3}]}}, "dgn.generators.0: k has no effect"),
    "twice the same loss": ({"dgn": {"generators": [{}, {}]}}, "dgn: lrp stands twice"),
    "huge numbers of sets": ({"attacks": [{"seeds": 10**9}]}, "attacks.0.seeds is 1000000000: input should be less than"),
    "names too long": ({"attacks": [{"target": 9, "sources": [*range(9), *range(10, 99)]}], "dataset": "mine", "data": MINE["data"]}, "too long; give fewer sources"),
    "more digits than Python writes": ({"seed": 10**5000}, "seed is a huge number: "),
    "yes and no": ({"device": False}, "device is false, where neither true nor false (yes, no) is meant"),
    "a thousand mistakes": ({"attacks": [{"x": 1}] * 1000}, "and 995 more."),
    "no block at all": ("dpa: 3", "configuration: a block of keys is needed"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_does_not_fit_together_is_named_with_its_remedy(case):
    config, sentence = CONTRADICTIONS[case]
    with pytest.raises(InputError) as caught:
        parse(config)
    assert sentence in str(caught.value), str(caught.value)
    assert str(caught.value).isprintable()


def valid(entry: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that the schema allows; none for texts."""
    kinds = []
    for one in options_of(entry):
        match one.get("type"):
            case "null":
                kinds.append(st.none())
            case _ if "enum" in one:
                kinds.append(st.sampled_from(one["enum"]))
            case "boolean":
                kinds.append(st.booleans())
            case "integer":
                kinds.append(st.integers(one["minimum"], one["maximum"]))
            case "number":
                low, high = (
                    one.get("minimum", one.get("exclusiveMinimum")),
                    one.get("maximum", one.get("exclusiveMaximum")),
                )
                ends = {"exclude_min": "exclusiveMinimum" in one, "exclude_max": "exclusiveMaximum" in one}
                ends["allow_subnormal"] = False
                kinds.append(st.floats(low, high, allow_nan=False, allow_infinity=False, **ends))
            case "array" if "items" in one:
                kinds.append(
                    st.lists(valid(one["items"]), min_size=max(1, one.get("minItems", 1)), max_size=4, unique=True)
                )
    return st.one_of(kinds) if kinds else st.nothing()


FREE = {path: entry for path, entry in LEAVES.items() if not COUPLED.match(dotted(path)) and not valid(entry).is_empty}


def test_most_keys_are_free():
    assert len(FREE) > 120


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_generated_valid_configurations_are_taken(data):
    path = data.draw(st.sampled_from(list(FREE)))
    value = data.draw(valid(FREE[path]))
    options = parse(changed(path, value))
    plain = options.model_dump(mode="json")
    assert parse(plain) == options
    assert parse(json.loads(json.dumps(plain), parse_int=str, parse_float=str)) == options  # as --config delivers it


# Files.


def test_files_are_laid_over_one_another_as_snakemake_does_it(tmp_path):
    (tmp_path / "a.yaml").write_text("seed: 3\ndpa: {k: [5], training: {steps: 7}}\n")
    (tmp_path / "b.json").write_text('{\n\t"dpa": {"training": {"batch_size": 4}}, "dataset": "mnist"\n}')
    options = check([tmp_path / "a.yaml", tmp_path / "b.json"])
    assert (options.seed, options.dataset, options.dpa.k) == (3, "mnist", [5])
    assert (options.dpa.training.steps, options.dpa.training.batch_size) == (7, 4)


FILES = {
    "seed: 1\ndpa:\n  k: [5\n": "cannot be read in line 4 (did not find expected",
    "seed: 1\n\tdevice: cpu\n": "cannot be read in line 2 (found a tab character that violates indentation)",
    "seed: 1\ndpa:\n  k: 1\n  k: 2\n": "has the key k twice in one block, in line 4: join the two.",
    '{"seed": 1, "seed": 2}': "has the key seed twice in one block: join the two.",
    "seed: !!python/object/apply:os.getpid []\n": "cannot be read in line 1 (could not determine a constructor",
    "__use_yte__: true\nseed: ?1 + 1\n": "asks for code to be run (__use_yte__): write plain values.",
    "dpa: &a\n  training: *a\n": "is nested too deeply or repeats itself (&, *): write its values out.",
    "seed: " + "[" * 100 + "]" * 100: "is nested too deeply or repeats itself",
    "seed: " + "[" * 90_000: "is nested too deeply",
    "seed: " + "9" * 5000: "is no YAML (Exceeds the limit (4300 digits)",
    '{"seed": ' + "9" * 5000 + "}": "is no YAML (Exceeds the limit (4300 digits)",
    "seed: 1\n---\nseed: 2\n": "cannot be read in line 2 (but found another document)",
    "? [a, b]\n: 1\n": "cannot be read in line 1 (found unhashable key)",
    "seed: 1\0\n": "is no YAML (unacceptable character #x0000",
    "- seed\n": "holds no keys: write at least one",
    "": "holds no keys: write at least one",
    "x" * (1 << 20) + "x": "has more than 1048576 bytes: give a configuration file",
}


@pytest.mark.parametrize("text", FILES, ids=range(len(FILES)))
def test_a_file_that_cannot_be_read_is_named_with_its_line(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        check([path])
    assert str(caught.value).startswith(f"{path} {FILES[text]}"), str(caught.value)[:300]


def test_other_encodings_and_paths_are_named(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_bytes("seed: 1\ndataset: café\n".encode("latin-1"))
    assert main(["check", str(path)]) == 1
    assert capsys.readouterr().err == f"error: {path} is not UTF-8 in line 2: save it as UTF-8.\n"
    assert main(["check", str(tmp_path / "nowhere.yaml")]) == 1
    assert "nowhere.yaml cannot be opened (No such file or directory)" in capsys.readouterr().err
    assert main(["check", str(tmp_path)]) == 1
    assert "cannot be opened (Is a directory)" in capsys.readouterr().err
    path.write_text("seed: 1\n")
    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out == "valid\n"
