# Functions and constants that rules share; no rules here.
import functools
import os
import re
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

import mithridate.closure
import mithridate.device
import mithridate.errors
import mithridate.findings.configuration
import mithridate.findings.parts
import mithridate.job
import mithridate.lease
import mithridate.options.attacks
import mithridate.options.badnet_runs
import mithridate.options.base
import mithridate.options.dgn_runs
import mithridate.options.reading
import mithridate.options.root
import mithridate.options.runs
import mithridate.options.smoothing_runs
import mithridate.training.recipe

mithridate.job.share_library()
mithridate.job.name_snakemake()

records = Path(".snakemake") if Path(".snakemake").exists() else Path()
if not os.access(records, os.W_OK):
    raise WorkflowError(
        f"{records.resolve()} cannot be written, where Snakemake keeps its records: mend the permissions."
    )

try:
    for file in workflow.configfiles:
        mithridate.options.reading.read(file)  # Snakemake itself keeps the last of two equal keys without a word
    OPTIONS = mithridate.options.root.parse(config)
except mithridate.errors.InputError as error:
    raise WorkflowError(str(error)) from None
config.update(OPTIONS.model_dump(mode="json"))

for key, attacks in (("attacks", OPTIONS.attacks), ("rab.attacks", OPTIONS.rab.attacks)):
    for attack in attacks:
        if attack.path and not Path(attack.path).is_file():
            raise WorkflowError(f"{key}.path: {attack.path} does not exist; give the path of a picture.")

for position, own in enumerate(OPTIONS.badnet.nets):
    for key, files in own.files().items():
        for file in files:
            if not Path(file).is_file():
                raise WorkflowError(
                    f"badnet.nets.{position}.{key}: {file} does not exist or is no file; mend the path."
                )

DEVICE = mithridate.device.kind(OPTIONS.device)
RUNS = mithridate.options.runs.Runs(OPTIONS)
ATTACKS = {attack.name: attack for attack in OPTIONS.attacks}
RAB_VARIANTS = mithridate.options.attacks.variants(OPTIONS.rab.attacks)
VICTIMS = mithridate.options.smoothing_runs.victims(OPTIONS.smoothing)
NETS = {net.folder: net for net in mithridate.options.badnet_runs.nets(OPTIONS.badnet, OPTIONS.enlarged)}
PLANTED = {one.name: one for one in OPTIONS.badnet.planted}
DGN_SETS = mithridate.options.dgn_runs.shown(OPTIONS.dgn)
DGN_NETWORKS = [mithridate.options.dgn_runs.UNDEFENDED, *mithridate.options.dgn_runs.defences(OPTIONS.dgn)]
SAMPLES = 5  # sample images of a file
RAB_SIGMAS = [mithridate.options.base.number(sigma) for sigma in OPTIONS.rab.sigma]


def code(script: str, model: str | None = None, table: str | None = None) -> str:
    """A digest of all library files that a script imports, of a model's own file, and of a table of the library.

    Snakemake itself watches only the script; as a parameter, the digest makes the job run again when one of those
    files changes, and no other job.
    """
    file = Path(workflow.basedir) / "workflow" / "scripts" / script
    files = [file, *mithridate.closure.closure(file)]  # the script itself for snapshots
    try:
        own = mithridate.closure.model_file(model) if model else []
    except mithridate.errors.InputError as error:
        raise WorkflowError(str(error)) from None
    tables = [mithridate.closure.ROOT / table] if table else []
    return mithridate.closure.digest(files + own + tables)[:16]


def gpus(wildcards) -> int:
    """The GPUs that a job of the network rules holds, of `--resources gpu=N`."""
    here = workflow.is_main_process and workflow.resource_settings.nodes is None  # --jobs: on a cluster
    if DEVICE == "cuda" and here and not workflow.touch:
        check_gpus()
    return int(DEVICE == "cuda")


@functools.cache
def check_gpus() -> None:
    """Refuses jobs on CUDA without a card or without a budget, and says where the budget is larger than it can be."""
    budget, cards = workflow.global_resources.get("gpu").value, len(mithridate.lease.visible_cards())
    said = "device is cuda," if OPTIONS.device == "cuda" else "device is auto, which is cuda here,"
    if not cards:
        raise WorkflowError(f"{said} but this machine shows no card: set device: cpu, or run where there is one.")
    if not budget:
        raise WorkflowError(
            f"{said} but nothing limits the GPU jobs at a time: give --resources gpu=N, here up to {cards}."
        )
    if budget > cards:
        logger.warning(f"--resources gpu={budget} is more than the visible cards ({cards}): jobs beyond wait for one.")


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


def scored_slices(wildcards) -> list[str]:
    """The slices that hold what a variant's base classifiers say of the test images of {inputs}."""
    own = wildcards.inputs if wildcards.variant == "clean" else ""
    pattern = f"results/{{dataset}}/dpa/{{variant}}/k{{k}}d{{d}}/{own}scores/{{slice}}{{boost}}.h5"
    return dpa_slices(pattern)(wildcards)


def methods_of(wildcards) -> list[str]:
    return RUNS.methods(int(wildcards.d))


def run_folders(runs) -> list[str]:
    return mithridate.options.runs.folders(runs)


def attacks_of(wildcards) -> list:
    """The attacks on the data set, or on RAB's task."""
    return OPTIONS.attacks if wildcards.place == OPTIONS.dataset else OPTIONS.rab.attacks


def attack_key(wildcards) -> str:
    """What messages call the block of an attack."""
    return "attacks" if wildcards.place == OPTIONS.dataset else "rab.attacks"


def attack_of(wildcards) -> dict:
    """The attack that makes a poisoned variant; in RAB's task classes are numbered anew."""
    variant = mithridate.options.attacks.variants(attacks_of(wildcards))[wildcards.poisoned]
    attack = variant.attack if wildcards.place == OPTIONS.dataset else OPTIONS.rab.renumbered(variant.attack)
    plain = {"attack": attack.poisoned_by(), "poisoned": variant.poisoned, "seed": variant.seed}
    return {**plain, "key": attack_key(wildcards)}


def trigger_of(wildcards) -> dict:
    return mithridate.options.attacks.triggers(attacks_of(wildcards))[wildcards.trigger].made_by()


def trigger_picture(wildcards) -> list[str]:
    """A user's own picture (trigger: image)."""
    attack = attack_of(wildcards)["attack"] if "poisoned" in wildcards.keys() else trigger_of(wildcards)
    return [attack["path"]] if attack.get("path") else []


def triggered_images(wildcards) -> list[str]:
    """The triggered test images that base classifiers trained on a poisoned variant are shown."""
    names = [trigger for trigger in RUNS.inputs(wildcards.variant) if trigger and wildcards.variant != "clean"]
    return expand("results/{dataset}/data/triggered/{trigger}.h5", dataset=OPTIONS.dataset, trigger=names)


def all_triggered_images(wildcards) -> list[str]:
    """The triggered test images that the undefended classifier trained on a variant is shown."""
    names = [trigger for trigger in RUNS.inputs(wildcards.variant) if trigger]
    return expand("results/{dataset}/data/triggered/{trigger}.h5", dataset=OPTIONS.dataset, trigger=names)


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


def poison_file(wildcards) -> list[str]:
    """The poison of a training set; none of the clean one."""
    if wildcards.training_set == mithridate.options.attacks.CLEAN:
        return []
    return expand("results/{dataset}/smoothing/poison/{training_set}.h5", **wildcards)


def sees_grey_levels(wildcards) -> bool:
    """Whether a poison is rounded; the clean training set is in grey levels anyway."""
    return OPTIONS.smoothing.quantised and wildcards.training_set != mithridate.options.attacks.CLEAN


def victim_model(wildcards) -> str:
    """The architecture of victims; where none other is configured, that of the poison's name alone is refused."""
    if not wildcards.other:
        return OPTIONS.smoothing.model
    if OPTIONS.smoothing.other_model is None:
        raise WorkflowError("smoothing.other_model is null: name another architecture.")
    return OPTIONS.smoothing.other_model


def victim_certificates(victim) -> list[str]:
    """The certificates of a victim, block by block."""
    blocks = len(gather.points("{scatteritem}"))
    folder = f"results/{OPTIONS.dataset}/smoothing/{victim.folder}/certificates"
    return [f"{folder}/{number}-of-{blocks}.csv.gz" for number in range(1, blocks + 1)]


def own_splits() -> list[str]:
    """A user's own poisoned training set."""
    folder = OPTIONS.smoothing.own
    files = [] if folder is None else [f"{folder}/{letter}_train.npy" for letter in "XY"]
    missing = [name for name in files if not Path(name).is_file()]
    if missing:
        raise WorkflowError(
            f"smoothing.own: {missing[0]} does not exist; give a folder with X_train.npy and Y_train.npy."
        )
    return files


def held_out_file(wildcards) -> str:
    """The clean images that a network is repaired with, all that its repair sees."""
    return NETS[wildcards.net].held_out


def repaired_model(wildcards) -> str:
    """A network's architecture: own ones are DeepIDs."""
    return "deepid" if NETS[wildcards.net].own else OPTIONS.badnet.model


def judged_file(wildcards) -> str:
    return NETS[wildcards.net].files[wildcards.file]


def twin_network(wildcards) -> list[str]:
    """The clean twin of a planted network."""
    twin = NETS[wildcards.net].twin
    return [f"results/{twin}/network.safetensors"] if twin else []


def twin_of_aware(wildcards) -> list[str]:
    """The clean twin, where a network is made of it."""
    aware = PLANTED[wildcards.planted].pruning_aware
    return expand("results/{dataset}/badnet/clean-n{number}/network.safetensors", **wildcards) if aware else []


def how_planted(wildcards) -> dict:
    """The options that a planted network depends on."""
    options = OPTIONS.badnet
    aware = {"layer": options.layer, "aware": options.pruning_aware.model_dump(mode="json")}
    one = PLANTED[wildcards.planted]
    known = {"training": options.training.model_dump(mode="json"), **(aware if one.pruning_aware else {})}
    return {**known, "planted": one.model_dump(mode="json", exclude={"seeds"})}


def repair_options() -> dict:
    """The options that a repair depends on."""
    unused = {"channels": {"weight_range"}, "weight_range": {"layer"}}[OPTIONS.badnet.pruning]
    used = {"split", "layer", "tau", "fine_tuning", "pruning", "weight_range"} - unused
    return OPTIONS.badnet.model_dump(mode="json", include=used)


def keras_example(wildcards) -> list[str]:
    """A user's own network, whose layout the repaired one is written in."""
    own = NETS[wildcards.net].own
    return [own.path] if own else []


def keras_files() -> list[str]:
    """The repaired networks that Keras can load: those that are DeepID."""
    deep = [folder for folder, net in NETS.items() if net.own or OPTIONS.badnet.model == "deepid"]
    return expand("results/{net}/goodnet/repaired.h5", net=deep)


def own_target() -> list[str]:
    """A user's own trained target."""
    path = OPTIONS.dgn.target.path
    if path is not None and not Path(path).is_file():
        raise WorkflowError(f"dgn.target.path: {path} does not exist or is no file; give a Keras HDF5 file.")
    return [] if path is None else [path]


def dgn_system(name: str):
    """The options of a system of adversarial data."""
    systems = {own.name: own for own in OPTIONS.dgn.systems}
    if name not in systems:
        raise WorkflowError(f"dgn.generators and dgn.attacks have no {name}, which this file is of: add it.")
    return systems[name]


def system_options(name: str, without: set[str]) -> dict:
    """Options of a system of adversarial data, without those of another step."""
    return dgn_system(name).model_dump(mode="json", exclude=without)


ROBUST = set(mithridate.options.dgn.AdversarialTrainingOptions.model_fields)


def suspicion() -> dict:
    """The options that suspicious units depend on."""
    used = dgn_system("suspiciousness")
    return used.model_dump(mode="json", include={"k", "activation_threshold"})


def loss_masks(wildcards) -> list[str]:
    """What a loss needs to know of the target."""
    names = {"lrp": ["relevance.h5"], "nce": [], "suspiciousness": ["suspicious.csv"]}[wildcards.loss]
    return expand("results/{dataset}/dgn/s{repeat}/{name}", name=names, **wildcards)


def generator_options(wildcards) -> dict:
    """The options that a loss's generators depend on."""
    unused = ROBUST | {"clipping", "mis_classification_check", "activation_threshold"}
    # ε is a part of one loss alone; the others' images are brought into the ball afterwards.
    epsilon = OPTIONS.dgn.epsilon if wildcards.loss == "lrp" else None
    return {"options": system_options(wildcards.loss, unused), "epsilon": epsilon}


def filtering(wildcards) -> dict:
    """What is done with generated images."""
    used = dgn_system(wildcards.loss)
    return used.model_dump(mode="json", include={"clipping", "mis_classification_check"})


def gradient_options(wildcards) -> dict:
    return system_options(wildcards.gradient, ROBUST | {"mode"})


def robust_options(wildcards) -> dict:
    """The options of a robust network's training; those of the attack, where it attacks while it trains."""
    own = dgn_system(wildcards.system)
    if own.adv_training_type == "gf":
        return own.model_dump(mode="json", include=ROBUST)
    return own.model_dump(mode="json", exclude={"mode"})


def robust_examples(wildcards) -> list[str]:
    """The adversarial training images, unless the network is attacked while it trains."""
    own = dgn_system(wildcards.system)
    return (
        expand("results/{dataset}/dgn/s{repeat}/{system}/train.h5", **wildcards)
        if own.adv_training_type == "gf"
        else []
    )


def attacked_network(wildcards) -> str:
    folder = f"results/{wildcards.dataset}/dgn/s{wildcards.repeat}"
    undefended = wildcards.defence == mithridate.options.dgn_runs.UNDEFENDED
    return f"{folder}/target.safetensors" if undefended else f"{folder}/{wildcards.defence}/robust.safetensors"


def own_data() -> list[str]:
    """A user's own data file or folder, so that a change to it is seen (within a folder: by `own_stamp`)."""
    path = OPTIONS.data.path
    if path is not None and not Path(path).exists():
        raise WorkflowError(f"data.path: {path} does not exist; give the path of an .npz file or a folder.")
    return [] if path is None else [path]


def own_stamp() -> str:
    """What changes when a file below a user's image folder does."""
    return mithridate.closure.stamp(OPTIONS.data.path) if OPTIONS.data.source in ("images", "npy") else ""


# Final tables and their category in the report, where numbers make the order.
TABLES = {
    "dpa_cert": "2 Partition aggregation",
    "dpa_summary": "2 Partition aggregation",
    "backdoor_matrix": "3 Backdoors",
    "backdoor_runs": "3 Backdoors",
    "rab_cert": "4 RAB",
    "smoothing_cert": "5 Randomized smoothing",
    "smoothing_claims": "5 Randomized smoothing",
    "badnet_repair": "6 BadNet repair",
    "dgn_robustness": "7 Adversarial data",
}
THIS_RUN = "8 This run"
ABOUT = ["configuration", "origins", "times"]  # tables about the run itself


def shown_tables() -> list[str]:
    present = {"3 Backdoors": bool(ATTACKS), "4 RAB": OPTIONS.rab.models > 0}
    present |= {"5 Randomized smoothing": bool(VICTIMS), "6 BadNet repair": bool(NETS)}
    present |= {"7 Adversarial data": bool(OPTIONS.dgn.systems)}
    return [table for table, category in TABLES.items() if present.get(category, True)]


def shown_parts() -> list[str]:
    """Parts with a final table in this configuration."""
    return parts_of("results")


def own_files() -> list[str]:
    """The configuration files of this call within the clone; what others say, the command of a run says itself."""
    files = [Path(file).resolve() for file in workflow.overwrite_configfiles or []]
    return [str(file.relative_to(Path.cwd())) for file in files if file.is_relative_to(Path.cwd())]


def recorded_pictures() -> list[str]:
    """One picture of each part, and of each attack."""
    names = ["certified_accuracy", *(f"backdoor/{attack}/success_rate" for attack in ATTACKS)]
    names += ["smoothing/average_radii"] if VICTIMS and not OPTIONS.smoothing.certify.sequential else []
    names += ["badnet/defences"] if NETS else []
    names += ["dgn/matrix"] if OPTIONS.dgn.systems else []
    return [f"results/pictures/{name}.svg" for name in names]


def run_folder(wildcards) -> str:
    """Where this run's final tables lie, or those of the run that is shown beside it."""
    return OPTIONS.report.beside[Path(wildcards.beside).name] if wildcards.beside else "results"


def of_run(table: str):
    """An input function: a final table of this run, or of the run that is shown beside it."""
    return lambda wildcards: f"{run_folder(wildcards)}/{table}.csv"


def labelled(result: str):
    """The labels of what is shown of every run; where there are two, the report switches from one to the other."""

    def labels(wildcards):
        name = Path(wildcards.beside).name or OPTIONS.dataset
        return {"result": result, **({"data set": name} if OPTIONS.report.beside else {})}

    return labels


def table_in_words(wildcards) -> dict[str, str]:
    """The labels of a table; those about the run itself are of no other run."""
    about = wildcards.table.removeprefix("run/")
    return {"result": about} if about in ABOUT else labelled(f"table {wildcards.table}.csv")(wildcards)


def ensemble_in_words(wildcards) -> str:
    seeds = f", {wildcards.seeds.removeprefix('m')} seeds" if wildcards.seeds else ""
    return f"k = {wildcards.k}, d = {wildcards.d}{seeds}"


def victim_in_words(wildcards) -> dict[str, str]:
    more = f", {victim_model(wildcards)}" if wildcards.other else ""
    return {"result": f"{wildcards.procedure}, σ = {wildcards.noise}{more}"}


def tables_of(folder: str) -> list[str]:
    """The final tables of a run by name: of this one, or of a finished one."""
    if folder == "results":
        return shown_tables()
    found = [table for table in TABLES if Path(folder, f"{table}.csv").is_file()]
    if not found:
        raise WorkflowError(
            f"report.beside: {folder} holds no final table; give the folder of results of a finished run."
        )
    return found


def parts_of(folder: str) -> list[str]:
    """Parts with a final table in a run."""
    tables = mithridate.findings.parts.TABLES
    return [part for part in tables if set(tables[part]) <= set(tables_of(folder))]


# What is drawn of a final table alone, and so also of another run's.
DRAWN = {
    "dpa_cert": ["certified_accuracy.svg"],
    "smoothing_claims": ["smoothing/average_radii.svg", "smoothing/transfer.svg"],
    "badnet_repair": ["badnet/defences.svg"],
    "dgn_robustness": ["dgn/matrix.svg", "dgn/curves.svg"],
}


def pages_beside() -> list[str]:
    """All that the report shows of other runs."""
    pages = []
    for name, folder in OPTIONS.report.beside.items():
        tables = tables_of(folder)
        own = [*(f"{table}.html" for table in tables), *(page for table in tables for page in DRAWN.get(table, []))]
        own += ["findings.html"] if Path(folder, "findings.csv").is_file() else []
        pages += [f"results/pictures/beside/{name}/{page}" for page in own]
    return pages


def used_data() -> list[str]:
    """The data set, and its enlarged form where a part needs it."""
    return sorted({OPTIONS.dataset, *([OPTIONS.enlarged] if NETS or OPTIONS.dgn.systems else [])})


def rab_pictures() -> list[str]:
    names = ["clean", *RAB_VARIANTS] if OPTIONS.rab.models else []
    return expand("results/pictures/rab/{variant}/clean.svg", variant=names)


def smoothing_pictures() -> list[str]:
    kinds = {Path(victim.folder).name for victim in VICTIMS}
    poisons = {victim.poison for victim in VICTIMS} - {mithridate.options.attacks.CLEAN}
    averages = [] if OPTIONS.smoothing.certify.sequential else ["average_radii", "transfer"]  # nothing is averaged then
    names = [*averages, *sorted(kinds)] if VICTIMS else []
    folder = f"results/{OPTIONS.dataset}/smoothing/poison"
    return [f"results/pictures/smoothing/{name}.svg" for name in names] + [f"{folder}/{name}.svg" for name in poisons]


def badnet_pictures() -> list[str]:
    """Pictures of every network, samples of every file, and all networks in one."""
    overview = ["results/pictures/badnet/defences.svg"] if NETS else []
    own = [f"results/{net}/pictures/{name}.svg" for net in NETS for name in ("pruning", "statistic", "answers")]
    samples = [f"results/{folder}/samples/{file}.csv" for folder, net in NETS.items() for file in net.files]
    return overview + own + samples


def dgn_pictures() -> list[str]:
    """Pictures of all networks in one, and of every repetition."""
    if not OPTIONS.dgn.systems:
        return []
    losses = mithridate.options.dgn_runs.generators(OPTIONS.dgn)
    target = {"lrp": "relevance", "suspiciousness": "suspicious"}
    own = [f"{system}/examples" for system in mithridate.options.dgn_runs.attacks(OPTIONS.dgn)]
    own += [f"{loss}/history" for loss in losses]
    own += [target[loss] for loss in losses if loss in target]
    pattern = "results/{dataset}/dgn/s{repeat}/{name}.svg"
    repeats = expand(pattern, dataset=OPTIONS.enlarged, repeat=range(OPTIONS.dgn.seeds), name=own)
    return [f"results/pictures/dgn/{name}.svg" for name in ("matrix", "curves")] + repeats


def greedy_table() -> list[str]:
    return [f"results/{OPTIONS.dataset}/dpa/clean/k{OPTIONS.greedy.k}d1/greedy.csv"] if OPTIONS.greedy.points else []


def greedy_picture() -> list[str]:
    return [str(Path(table).parent / "pictures" / "greedy.svg") for table in greedy_table()]


def variants_of(attack: str) -> dict[str, float]:
    """Numbers of poisoned images of an attack's variants, by name."""
    return {name: variant.poisoned for name, variant in RUNS.variants.items() if variant.attack.name == attack}


def any_of(names) -> str:
    """A wildcard constraint."""
    return "|".join(map(re.escape, names)) or "(?!)"
