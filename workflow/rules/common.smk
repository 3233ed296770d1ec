# Functions and constants that rules share; no rules here.
from pathlib import Path

from snakemake.exceptions import WorkflowError

from mithridate.closure import closure, model_file
from mithridate.device import kind
from mithridate.errors import InputError
from mithridate.options.root import parse
from mithridate.training.recipe import most_slices

try:
    OPTIONS = parse(config)
except InputError as error:
    raise WorkflowError(str(error)) from None
config.update(OPTIONS.model_dump(mode="json"))

DEVICE = kind(OPTIONS.device)
GPUS = 1 if DEVICE == "cuda" else 0


def code(script: str) -> list[str]:
    """A script's import closure in the library: Snakemake itself watches only the script."""
    return [str(path) for path in closure(Path(workflow.basedir) / "workflow" / "scripts" / script)]


def architecture(name: str) -> list[str]:
    """The file that defines a model, so that editing it trains anew."""
    return [str(path) for path in model_file(name)]


def slices(pattern: str):
    """An input function: one file per slice of a family of k members."""

    def files(wildcards):
        asked = len(gather.slices("{scatteritem}"))
        count = min(asked, most_slices(int(wildcards.k), OPTIONS.dpa.training))
        names = [f"{number}-of-{count}" for number in range(1, count + 1)]
        return expand(pattern, slice=names, allow_missing=True)

    return files


def own_data() -> list[str]:
    """A user's own data file or folder, so that a change to it is seen."""
    path = OPTIONS.data.path
    if path is not None and not Path(path).exists():
        raise WorkflowError(f"data.path: {path} does not exist; give the path of an .npz file or an image folder.")
    return [] if path is None else [path]
