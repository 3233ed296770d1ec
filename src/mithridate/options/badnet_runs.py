"""What BadNet repair asks for, network by network: where its files lie."""

from dataclasses import dataclass, field

from mithridate.options.badnet import MULTI, BadnetOptions, NetOptions, PlantedOptions, file_name


@dataclass(frozen=True)
class Net:
    """A network to be repaired; folders are below results/, files as the workflow names them."""

    name: str
    folder: str
    held_out: str
    """clean images for the repair"""
    tests: dict[str, str]
    """clean test files by name, for evaluation only"""
    triggered: dict[str, str]
    """files of triggered images by name, for evaluation only"""
    own: NetOptions | None = None
    planted: PlantedOptions | None = None
    twin: str | None = None
    """folder of the clean twin"""
    targets: dict[str, int] = field(default_factory=dict)
    """target classes by trigger, where they are known"""

    @property
    def files(self) -> dict[str, str]:
        """All files that it is evaluated on, by name."""
        return {**self.tests, **self.triggered}


def nets(options: BadnetOptions, dataset: str) -> list[Net]:
    """Own networks, then the planted ones."""
    return [_own(one) for one in options.nets] + [
        _planted(one, seed, dataset) for one in options.planted for seed in range(one.seeds)
    ]


def triggers(planted: PlantedOptions) -> dict[str, int]:
    """Target classes by trigger."""
    names = MULTI if planted.trigger == "multi" else (planted.trigger,)
    return dict(zip(names, planted.targets, strict=True))


def _own(one: NetOptions) -> Net:
    tests, poisoned = ({file_name(path): path for path in paths} for paths in (one.tests, one.poisoned))
    return Net(one.name, f"badnet/{one.name}", one.validation, tests, poisoned, own=one)


def _planted(one: PlantedOptions, seed: int, dataset: str) -> Net:
    home, found = f"{dataset}/badnet", triggers(one)
    data = f"results/{home}/data"
    files = {name: f"{data}/{name}-t{target}.h5" for name, target in found.items()}
    return Net(
        name=f"{one.name}-n{seed}",
        folder=f"{home}/{one.name}-n{seed}",
        held_out=f"{data}/held_out.h5",
        tests={"test": f"{data}/test.h5"},
        triggered=files,
        planted=one,
        twin=f"{home}/clean-n{seed}",
        targets=found,
    )
