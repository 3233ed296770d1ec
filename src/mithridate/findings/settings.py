"""In what a run's options differ from those of the papers, which are the overlays config/DATASET.yaml."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mithridate.errors import InputError
from mithridate.findings.published import published
from mithridate.options.reading import check

MEANS = {"strategy", "width", "precision", "channels_last", "cuda_graphs"}
"""How networks are trained, not what they are."""
Configs = Mapping[str, Mapping[str, Any]]


def papers(folder: str | Path) -> dict[str, dict[str, Any]]:
    """The papers' options by data set, whole, from a folder of overlays. Raises InputError where there are none."""
    files = {name: Path(folder) / f"{name}.yaml" for name in sorted(set(published()["dataset"]) - {""})}
    found = {name: check([path]).model_dump(mode="json") for name, path in files.items() if path.is_file()}
    if not found:
        raise InputError(f"{folder} holds no options of the papers ({', '.join(files)}.yaml): run inside the clone.")
    return found


def differs(config: Mapping[str, Any], of_papers: Configs, needs: str) -> list[str]:
    """What keeps the options named in `needs` ("dpa.model dgn.generators.lrp") from being the paper's, in words; []
    where they are the same."""
    if not needs:
        return []
    paper = of_papers.get(config["dataset"])
    if paper is None:
        return [f"there are no options of a paper for {config['dataset']}"]
    if config["data"]["source"] != "builtin":
        return ["the data is the user's own"]
    return [text for path in needs.split() for text in _differences(path, _at(config, path), _at(paper, path))]


def _at(config: Mapping[str, Any], path: str) -> Any:
    """The value at a path, in which a system of adversarial data is named by its loss; None where there is none."""
    value: Any = config
    for key in path.split("."):
        if isinstance(value, list):
            value = next((one for one in value if one["custom_loss"] == key), None)
        else:
            value = None if value is None else value.get(key)
    return value


def _differences(path: str, ours: Any, paper: Any) -> Iterator[str]:
    if isinstance(ours, Mapping) and isinstance(paper, Mapping):
        # A record may be older than an option, which then has the default that leaves things as they were.
        for key in sorted((ours.keys() & paper.keys()) - MEANS):
            yield from _differences(f"{path}.{key}", ours[key], paper[key])
    elif ours != paper:
        yield f"{path} is {_plain(ours)} instead of {_plain(paper)}"


def _plain(value: Any) -> str:
    return "null" if value is None else str(value)
