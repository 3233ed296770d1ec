"""The whole configuration, and what a user is told when it is wrong."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from mithridate.errors import InputError, short
from mithridate.options.attacks import DpaAttackOptions, clash
from mithridate.options.backdoor import GreedyOptions, SingleOptions
from mithridate.options.badnet import BadnetOptions
from mithridate.options.base import LONGEST_NAME, NAME, Strict, Whole, shown
from mithridate.options.data import BUILTIN, DataOptions
from mithridate.options.dgn import DgnOptions
from mithridate.options.dpa import FINITE, PARTITIONED, DpaOptions
from mithridate.options.models import MODEL, NAMES
from mithridate.options.rab import RabOptions
from mithridate.options.report import ReportOptions
from mithridate.options.smoothing import SmoothingOptions

MOST_SENTENCES = 5
# pydantic's errors in the words of a configuration file
PLAIN = {
    "model_type": "a block of keys is needed, as in config/config.yaml",
    "list_type": "a list is needed, as in [1, 2] or with a dash before each entry",
    "tuple_type": "a list is needed, as in [1, 2] or with a dash before each entry",
    "string_type": "text is needed",
    "invalid_key": "keys must be words",
    "recursion_loop": "the block contains itself; write its values out",
}
WORDS = {
    NAME: "letters, digits and underscores are needed, a letter or digit first",
    MODEL: f"choose one of {', '.join(NAMES)}, or give package.module:function",
}


class Options(Strict):
    dataset: Annotated[str, Field(pattern=NAME, max_length=LONGEST_NAME)] = "digits"
    """digits, digits28, mnist, fashion_mnist, cifar10, gtsrb, or a name for your own data; also the folder's name in results/"""
    data: DataOptions = DataOptions()
    """where the data comes from"""
    seed: Whole = 0
    """experiment seed, from which every random stream is named"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """what training and scoring run on; auto takes a GPU where there is one"""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """level of the confidence intervals over the test sample"""
    dpa: DpaOptions = DpaOptions()
    """certified defence by partition aggregation"""
    attacks: list[DpaAttackOptions] = [DpaAttackOptions()]
    """backdoor attacks that are run through the whole pipeline beside the clean training set"""
    single: SingleOptions = SingleOptions()
    """the undefended classifier that every attack is also run on"""
    greedy: GreedyOptions = GreedyOptions()
    """real attacks on single test images, by an attacker who knows all votes and chooses the partitions"""
    rab: RabOptions = RabOptions()
    """certified training against backdoors by smoothing the training set (RAB)"""
    smoothing: SmoothingOptions = SmoothingOptions()
    """randomized smoothing of victims trained on clean and on poisoned data"""
    badnet: BadnetOptions = BadnetOptions()
    """repair of backdoored networks, your own and planted ones"""
    dgn: DgnOptions = DgnOptions()
    """adversarial data generation, and who is robust against whom"""
    report: ReportOptions = ReportOptions()
    """what the report shows beside this run"""

    @property
    def enlarged(self) -> str:
        """The data set of what needs more than 8 x 8 pixels: digits28 in place of digits."""
        return "digits28" if self.dataset == "digits" else self.dataset

    @model_validator(mode="after")
    def _known_data(self) -> Self:
        if self.data.source == "builtin" and self.dataset not in BUILTIN:
            guess = _meant(self.dataset, BUILTIN)
            raise ValueError(
                f"dataset: {self.dataset!r} is not one of {', '.join(BUILTIN)}; {f'did you mean {guess}? ' if guess else ''}for your own data give data.source: npz, images or npy, and data.path"
            )
        if (self.data.source == "builtin") == (self.data.path is not None):
            raise ValueError("data.path goes with data.source: npz, images or npy, and they need it")
        return self

    @model_validator(mode="after")
    def _beside(self) -> Self:
        if self.dataset in self.report.beside:
            raise ValueError(
                f"report.beside: this run itself is called {self.dataset}; give the other run another name"
            )
        return self

    @model_validator(mode="after")
    def _held_out(self) -> Self:
        if self.smoothing.procedures and self.data.validation_fraction == 0 and self.data.source != "npy":
            raise ValueError(
                "data.validation_fraction is 0, but the attack on randomized smoothing measures itself on held-out images;"
                " raise it (or smoothing.procedures: [] for none)"
            )
        return self

    @model_validator(mode="after")
    def _attacks(self) -> Self:
        for name, attacks in (("attacks", self.attacks), ("rab.attacks", self.rab.attacks)):
            if problem := clash(attacks):
                raise ValueError(f"{name}: {problem}")
        certified = {d for d in self.dpa.d if set(self.dpa.methods) & set(PARTITIONED if d == 1 else FINITE)}
        if not certified:
            raise ValueError(
                f"dpa.methods: none of {', '.join(self.dpa.methods)} certifies single images for d in {self.dpa.d};"
                f" add {', '.join(PARTITIONED)} (d = 1) or {', '.join(FINITE)} (d > 1)"
            )
        unknown = {d for attack in self.attacks for d in attack.d} - certified
        if unknown:
            raise ValueError(
                f"attacks: for d = {sorted(unknown)} there is no clean ensemble; add it to dpa.d, and to dpa.methods a"
                " certificate for it"
            )
        return self

    @model_validator(mode="after")
    def _classes(self) -> Self:
        known = BUILTIN.get(self.dataset) if self.data.source == "builtin" else None
        if known is not None:
            asked = {"rab.classes": set(self.rab.classes or [])}
            asked["smoothing.target"] = {self.smoothing.target} if self.smoothing.procedures else set()
            for key, attacks in (("attacks", self.attacks), ("rab.attacks", self.rab.attacks)):
                asked[key] = {c for attack in attacks for c in (attack.target, *(attack.sources or []))}
            asked["badnet.planted"] = {target for net in self.badnet.planted for target in net.targets}
            for key, classes in asked.items():
                if classes and max(classes) >= known:
                    raise ValueError(f"{key}: {self.dataset} has no class {max(classes)}; its last is {known - 1}")
        for attack in self.rab.attacks:
            named = {attack.target, *(attack.sources or [])}
            if self.rab.classes is not None and not named <= set(self.rab.classes):
                raise ValueError(
                    f"rab.attacks: target and sources {sorted(named)} are not all among rab.classes"
                    f" {self.rab.classes}; set rab.attacks as well (or rab.attacks: [] for none)"
                )
        return self


def parse(config: Mapping[str, Any]) -> Options:
    """The typed options of a configuration. Raises InputError, one sentence per wrong key."""
    try:
        return Options.model_validate(config)
    except ValidationError as error:
        sentences = list(dict.fromkeys(_sentence(item) for item in error.errors()))
    more = f"; and {len(sentences) - MOST_SENTENCES} more" if len(sentences) > MOST_SENTENCES else ""
    text = "; ".join(sentences[:MOST_SENTENCES]) + more
    raise InputError(text if text.endswith("?") else f"{text}.")


def _sentence(item: Any) -> str:
    """One pydantic error as: configuration key, what was given, what is allowed."""
    kind, given, path = item["type"], item["input"], [str(part) for part in item["loc"]]
    key = ".".join(map(short, path))
    if kind == "extra_forbidden":
        return f"configuration key {key} is unknown; {_known(path)}"
    if kind == "missing":
        return f"configuration key {key} is missing; give it (config/README.md says what it is)"
    message = PLAIN.get(kind) or str(item["msg"]).removeprefix("Value error, ")
    message = WORDS.get(item.get("ctx", {}).get("pattern", ""), message)
    if not key:
        return f"configuration: {message}"
    if kind == "value_error" and isinstance(given, Mapping):
        return f"configuration key {key}: {message}"
    message = message[:1].lower() + message[1:]
    if kind == "literal_error" and (guess := _meant(str(given), re.findall("'([^']*)'", message))):
        message += f"; did you mean {guess}?"
    return f"configuration key {key} is {shown(given)}: {message} (config/README.md lists what is allowed)"


def _meant(given: str, known: Iterable[str]) -> str | None:
    """A guess at what was meant."""
    lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(given.lower(), lower, 1)
    return lower[close[0]] if close else None


def _known(path: list[str]) -> str:
    """What an unknown key may have been meant for: one like it in its block, the same one in another, or any here."""
    *block, name = path
    known = list(_fields(block))
    if guess := _meant(name, known):
        return f"did you mean {'.'.join([*block, guess])}?"
    elsewhere = [key for key in _everywhere(Options, []) if key[-1] == name]
    inside = [key for key in elsewhere if key[: len(block)] == block] or elsewhere
    if inside:
        return f"did you mean {' or '.join('.'.join(key) for key in inside[:3])}?"
    return f"known here: {', '.join(known)}"


def _fields(path: list[str]) -> dict[str, FieldInfo]:
    """The keys of the block at `path`, where numbers are positions in a list."""
    block: Any = Options
    for part in path:
        annotation = block if part.isdigit() else block.model_fields[part].annotation
        block = get_args(annotation)[0] if get_origin(annotation) is list else annotation
    return block.model_fields


def _everywhere(block: type[BaseModel], path: list[str]) -> Iterator[list[str]]:
    """All keys below a block; those of lists of blocks with [] behind."""
    for name, field in block.model_fields.items():
        yield [*path, name]
        inner, end = (
            (get_args(field.annotation)[0], "[]") if get_origin(field.annotation) is list else (field.annotation, "")
        )
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _everywhere(inner, [*path, name + end])
