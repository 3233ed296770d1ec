"""What a part of a run was made with: hardware and versions from its artefacts, seconds from its benchmarks."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mithridate.artefacts import read_checked, read_notes, read_provenance
from mithridate.benchmark import last_run
from mithridate.errors import InputError
from mithridate.findings.parts import TABLES

VERSIONS = ("mithridate", "python", "torch", "numpy", "snakemake")
TABULATED = {
    "dpa": "tabulate_certificates",
    "backdoor": "tabulate_backdoors",
    "rab": "tabulate_noised",
    "smoothing": "tabulate_smoothing",
    "badnet": "tabulate_badnets",
    "dgn": "tabulate_robustness",
}


def describe(
    results: str | Path,
    part: str,
    config: Mapping[str, Any],
    changed: Any,
    command: str,
    benchmarks: Sequence[Path] = (),
    artefacts: Sequence[Path] = (),
) -> dict[str, Any]:
    """Plain values about one part, for results/runs/PART.json.

    results: the folder of a run; config, changed and command: see configuration. hardware: devices and processors of
    the machines that wrote its artefacts; seconds: sum of the wall times of the jobs that its tables follow from, each
    as it last ran to its end, of one thread each on a CPU (parts share jobs: data, ensembles); jobs: their number.
    tables: the SHA-256 of each, by which `record` knows them again.
    benchmarks and artefacts: of these jobs, where they are known; otherwise all that lie where the part's jobs write.
    Raises InputError where tables, artefacts or benchmarks are missing, and where networks were trained otherwise.
    """
    root = Path(results)
    folders = _folders(part, config)
    artefacts = artefacts or sorted(_below(root, folders, ".h5", ".safetensors"))
    found = [read_provenance(path) for path in artefacts]
    for path in artefacts:
        if part == "dpa" and path.parent.name == "models":
            _check_recipe(path, config)
    if not found:
        raise InputError(f"{root} holds no artefact of {part}: let the workflow make it, then describe it.")
    times = [last_run(path)["s"] for path in benchmarks or sorted(_benchmarks(root / "benchmarks", part, folders))]
    if not times:
        raise InputError(f"{root}/benchmarks holds no time of {part}: let the workflow make it again.")
    return {
        "part": part,
        "dataset": config["dataset"],
        "tables": {name: hashlib.sha256(read_checked(root / f"{name}.csv")).hexdigest() for name in TABLES[part]},
        "command": command,
        "hardware": _hardware(found),
        "seconds": round(sum(times), 1),
        "jobs": len(times),
        "commit": _values(found, "commit"),
        "versions": {name: ", ".join(_values(found, name)) for name in VERSIONS},
        "peak_gpu_bytes": max((int(one.get("peak_gpu_bytes", 0)) for one in found), default=0),
        "changed": changed,
        "configuration": config,
    }


def _folders(part: str, config: Mapping[str, Any]) -> list[str]:
    """Below results/ and results/benchmarks/, as patterns: where the artefacts and times of a part's jobs lie."""
    dataset = config["dataset"]
    enlarged = "digits28" if dataset == "digits" else dataset
    if part in ("dpa", "backdoor"):
        dpa = config["dpa"]
        boosts = ["", *(f"m{count}" for count in dpa["seeds"] if count > 1)]
        names = {f"k{k}d{d}{boost}" for k in dpa["k"] for d in dpa["d"] for boost in boosts}
        own = [f"{dataset}/{name}" for name in ("poison_data", "trigger_test_images")]
        own += [f"{dataset}/single"] if part == "backdoor" else []
        return own + [f"{dataset}/dpa/*/{name}" for name in sorted(names)]
    if part == "badnet":
        return [f"{enlarged}/badnet", *(f"badnet/{net['name']}" for net in config["badnet"]["nets"])]
    return [f"{enlarged if part == 'dgn' else dataset}/{part}"]


def _benchmarks(root: Path, part: str, folders: Sequence[str]) -> Iterator[Path]:
    first = folders[0].split("/")[0]
    shared = [root / first / "make_data.tsv", root / f"{TABULATED[part]}.tsv"]
    yield from (path for path in shared if path.is_file())
    for path in _below(root, folders, ".tsv"):
        if "attack_greedily" not in path.name:
            yield path


def _below(root: Path, folders: Sequence[str], *endings: str) -> set[Path]:
    return {
        path
        for pattern in folders
        for folder in root.glob(pattern)
        for path in folder.rglob("*")
        if path.suffix in endings and path.is_file()
    }


def _check_recipe(path: Path, config: Mapping[str, Any]) -> None:
    """A folder that was copied without Snakemake's own records is taken over under any configuration."""
    recipe = read_notes(path).get("recipe")
    if recipe is None:
        return
    now = {"model": config["dpa"]["model"], "seed": config["seed"], **config["dpa"]["training"]}
    then = {"model": recipe["model"], "seed": recipe["seed"], **recipe["options"]}
    other = [key for key in now if key in then and then[key] != now[key]]
    if other:
        key = other[0] if other[0] == "seed" else f"dpa.{'' if other[0] == 'model' else 'training.'}{other[0]}"
        raise InputError(
            f"{path} was trained with {key} = {then[other[0]]}, which is {now[other[0]]} now: delete this folder's"
            " networks to train them again, or give the configuration they were made with."
        )


def _hardware(found: Sequence[Mapping[str, Any]]) -> str:
    """NVIDIA H100 80GB HBM3 (AMD EPYC, 16 cores)."""
    devices = sorted({device for text in _values(found, "device") for device in text.split(", ")})
    processors = _values(found, "processor") or _values(found, "machine")
    return f"{', '.join(devices) or 'cpu'} ({'; '.join(processors)})"


def _values(found: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    return sorted({str(one[name]) for one in found if one.get(name)})
