# Functions and constants that rules share; no rules here.
from pathlib import Path

from snakemake.exceptions import WorkflowError

import mithridate.closure
import mithridate.device
import mithridate.errors
import mithridate.job
import mithridate.options.root
import mithridate.training.recipe

mithridate.job.share_library()

try:
    OPTIONS = mithridate.options.root.parse(config)
except mithridate.errors.InputError as error:
    raise WorkflowError(str(error)) from None
config.update(OPTIONS.model_dump(mode="json"))

DEVICE = mithridate.device.kind(OPTIONS.device)
GPUS = 1 if DEVICE == "cuda" else 0


def code(script: str, model: str | None = None) -> str:
    """A digest of all library files that a script imports, and of a model's own file.

    Snakemake itself watches only the script; as a parameter, the digest makes the job run again when one of those
    files changes, and no other job.
    """
    files = mithridate.closure.closure(Path(workflow.basedir) / "workflow" / "scripts" / script)
    try:
        own = mithridate.closure.model_file(model) if model else []
    except mithridate.errors.InputError as error:
        raise WorkflowError(str(error)) from None
    return mithridate.closure.digest(files + own)[:16]


def slices(pattern: str):
    """An input function: one file per slice of a family of k members."""

    def files(wildcards):
        asked = len(gather.slices("{scatteritem}"))
        most = mithridate.training.recipe.most_slices(
            int(wildcards.k), OPTIONS.dpa.training, model=OPTIONS.dpa.model, device=DEVICE
        )
        count = max(1, min(asked, most))
        names = [f"{number}-of-{count}" for number in range(1, count + 1)]
        return expand(pattern, slice=names, allow_missing=True)

    return files


def own_data() -> list[str]:
    """A user's own data file or folder, so that a change to it is seen (within a folder: by `own_stamp`)."""
    path = OPTIONS.data.path
    if path is not None and not Path(path).exists():
        raise WorkflowError(f"data.path: {path} does not exist; give the path of an .npz file or an image folder.")
    return [] if path is None else [path]


def own_stamp() -> str:
    """What changes when a file below a user's image folder does."""
    return mithridate.closure.stamp(OPTIONS.data.path) if OPTIONS.data.source == "images" else ""
