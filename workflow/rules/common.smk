# Functions and constants that rules share; no rules here.
import re
from pathlib import Path

from snakemake.exceptions import WorkflowError

import mithridate.closure
import mithridate.device
import mithridate.errors
import mithridate.job
import mithridate.options.attacks
import mithridate.options.root
import mithridate.options.runs
import mithridate.training.recipe

mithridate.job.share_library()

try:
    OPTIONS = mithridate.options.root.parse(config)
except mithridate.errors.InputError as error:
    raise WorkflowError(str(error)) from None
config.update(OPTIONS.model_dump(mode="json"))

DEVICE = mithridate.device.kind(OPTIONS.device)
GPUS = 1 if DEVICE == "cuda" else 0
RUNS = mithridate.options.runs.Runs(OPTIONS)
ATTACKS = {attack.name: attack for attack in OPTIONS.attacks if any(attack.poisoned)}
RAB_VARIANTS = mithridate.options.attacks.variants(OPTIONS.rab.attacks)


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


def slices(members: int, model: str, training, process: str) -> list[str]:
    """The slices of a family: as many as the scattergather process says, and no more than it has tiles."""
    asked = len(getattr(gather, process)("{scatteritem}"))
    most = mithridate.training.recipe.most_slices(members, training, model=model, device=DEVICE)
    count = max(1, min(asked, most))
    return [f"{number}-of-{count}" for number in range(1, count + 1)]


def dpa_slices(pattern: str, variant: str | None = None):
    """An input function: one file per slice and boost seed of a family of k·d members (of another variant's)."""

    def files(wildcards):
        own = variant or wildcards.variant
        process = "slices" if own == "clean" else "poisoned"
        names = slices(int(wildcards.k) * int(wildcards.d), OPTIONS.dpa.model, OPTIONS.dpa.training, process)
        boosts = mithridate.options.runs.boosts(wildcards.get("seeds", ""))
        return expand(pattern, slice=names, boost=boosts, variant=own, allow_missing=True)

    return files


def methods_of(wildcards) -> list[str]:
    return RUNS.methods(int(wildcards.d))


def run_folders(runs) -> list[str]:
    return mithridate.options.runs.folders(runs)


def attacks_of(wildcards) -> list:
    """The attacks on the data set, or on RAB's task."""
    return OPTIONS.attacks if wildcards.place == OPTIONS.dataset else OPTIONS.rab.attacks


def attack_of(wildcards) -> dict:
    """The attack that makes a poisoned variant; in RAB's task classes are numbered anew."""
    variant = mithridate.options.attacks.variants(attacks_of(wildcards))[wildcards.poisoned]
    attack = variant.attack if wildcards.place == OPTIONS.dataset else OPTIONS.rab.renumbered(variant.attack)
    return {"attack": attack.poisoned_by(), "poisoned": variant.poisoned, "seed": variant.seed}


def trigger_of(wildcards) -> dict:
    return mithridate.options.attacks.triggers(attacks_of(wildcards))[wildcards.trigger].made_by()


def trigger_picture(wildcards) -> list[str]:
    """A user's own picture (trigger: image)."""
    attack = attack_of(wildcards)["attack"] if "poisoned" in wildcards.keys() else trigger_of(wildcards)
    return [attack["path"]] if attack["path"] else []


def triggered_images(wildcards) -> list[str]:
    """The triggered test images that base classifiers trained on a variant are shown."""
    return expand(
        "results/{dataset}/data/triggered/{trigger}.h5",
        dataset=OPTIONS.dataset,
        trigger=[trigger for trigger in RUNS.inputs(wildcards.variant) if trigger],
    )


def attack_checks() -> list[str]:
    return [f"results/{OPTIONS.dataset}/dpa/{name}/{ensemble.name}/check.csv" for name, ensemble in RUNS.attacked()]


def attack_scores(wildcards, variant: str) -> list[str]:
    """What ensembles trained on a variant say of the clean and the triggered test images of a poisoned variant."""
    names = ["" if not trigger else f"triggered/{trigger}/" for trigger in RUNS.inputs(wildcards.poisoned)]
    pattern = "results/{dataset}/dpa/{trained}/k{k}d{d}{seeds}/{inputs}scores.h5"
    return expand(pattern, trained=variant, inputs=names, **wildcards)


def rab_slices(pattern: str):
    """An input function: one file per slice of RAB's noised networks."""

    def files(wildcards):
        names = slices(int(wildcards.models), OPTIONS.rab.model, OPTIONS.rab.training, "noised")
        return expand(pattern, slice=names, allow_missing=True)

    return files


def rab_triggered_images(wildcards) -> list[str]:
    attacks = OPTIONS.rab.attacks
    if wildcards.rab_variant != "clean":
        attacks = [RAB_VARIANTS[wildcards.rab_variant].attack]
    names = mithridate.options.attacks.triggers(attacks)
    return expand("results/{dataset}/rab/{task}/data/triggered/{trigger}.h5", trigger=names, allow_missing=True)


def own_data() -> list[str]:
    """A user's own data file or folder, so that a change to it is seen (within a folder: by `own_stamp`)."""
    path = OPTIONS.data.path
    if path is not None and not Path(path).exists():
        raise WorkflowError(f"data.path: {path} does not exist; give the path of an .npz file or an image folder.")
    return [] if path is None else [path]


def own_stamp() -> str:
    """What changes when a file below a user's image folder does."""
    return mithridate.closure.stamp(OPTIONS.data.path) if OPTIONS.data.source == "images" else ""


# Final tables and their category in the report.
TABLES = {
    "dpa_cert": "Partition aggregation",
    "dpa_summary": "Partition aggregation",
    "backdoor_matrix": "Backdoors",
    "backdoor_runs": "Backdoors",
    "rab_cert": "RAB",
}


def shown_tables() -> list[str]:
    return [table for table, category in TABLES.items() if category != "Backdoors" or ATTACKS]


def greedy_picture() -> list[str]:
    folder = f"results/{OPTIONS.dataset}/dpa/clean/k{OPTIONS.greedy.k}d1/pictures"
    return [f"{folder}/greedy.svg"] if OPTIONS.greedy.points else []


def variants_of(attack: str) -> dict[str, float]:
    """Numbers of poisoned images of an attack's variants, by name."""
    return {name: variant.poisoned for name, variant in RUNS.variants.items() if variant.attack.name == attack}


def any_of(names) -> str:
    """A wildcard constraint."""
    return "|".join(map(re.escape, names)) or "(?!)"
