# The contents page: what this workflow makes, and where each part is written down.
from snakemake.utils import min_version

min_version("9.20")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


# Jobs a family's training is cut into: on the clean training set, on a poisoned one (where few are trained anew), and
# RAB's; and blocks of test images that are certified under noise. Change with --set-scatter slices=16 poisoned=4; results
# do not depend on it.
scattergather:
    slices=2,
    poisoned=1,
    noised=1,
    points=1,


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/dpa.smk"
include: "workflow/rules/backdoor.smk"
include: "workflow/rules/rab.smk"
include: "workflow/rules/smoothing.smk"
include: "workflow/rules/badnet.smk"
include: "workflow/rules/dgn.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/papers.smk"
include: "workflow/rules/cluster.smk"


# A dry run refuses them where it lists them.
onstart:
    check_cluster()
    if any("gpu" in job.rule.resources for job in workflow.dag.needrun_jobs()):
        gpus(None)


wildcard_constraints:
    dataset=any_of(sorted({OPTIONS.dataset, OPTIONS.enlarged})),
    place=any_of([OPTIONS.dataset, f"{OPTIONS.dataset}/rab/{OPTIONS.rab.task}"]),
    variant=any_of(["clean", *RUNS.variants]),
    poisoned=any_of([*RUNS.variants, *RAB_VARIANTS]),
    trigger=any_of([*RUNS.triggers, *mithridate.options.attacks.triggers(OPTIONS.rab.attacks)]),
    inputs=f"(triggered/({any_of(RUNS.triggers)})/)?",
    k=r"\d+",
    d=r"\d+",
    seeds=r"(m\d+)?",
    boost=r"(-seed\d+)?",
    slice=r"\d+-of-\d+",
    task=OPTIONS.rab.task,
    attack=any_of(ATTACKS),
    rab_variant=any_of(["clean", *RAB_VARIANTS]),
    sigma=any_of(RAB_SIGMAS),
    models=r"\d+",
    net=any_of(NETS),
    own=r"\w+",
    file=any_of(sorted({file for net in NETS.values() for file in net.files})),
    planted=any_of(PLANTED),
    number=r"\d+",
    stamp=any_of(mithridate.options.badnet.MULTI),
    repeat=r"\d+",
    beside=f"(beside/({any_of(OPTIONS.report.beside)})/)?",
    loss=any_of(mithridate.options.dgn_runs.generators(OPTIONS.dgn)),
    gradient=any_of([own.name for own in OPTIONS.dgn.attacks]),
    system=any_of([own.name for own in OPTIONS.dgn.systems]),
    part="train|test|wrong",
    defence=any_of(DGN_NETWORKS),
    # Of a poison in the name of its file.
    procedure="gaussian|smoothadv|macer",
    noise=r"0\.\d*[1-9]|[1-9]\d*(\.\d*[1-9])?",
    epsilon=r"0|0\.\d*[1-9]|[1-9]\d*(\.\d*[1-9])?",
    target_class=r"\d+",
    other="(-other)?",
    block=r"[1-9]\d*-of-[1-9]\d*",
    training_set=r"clean|(gaussian-s[\d.]+|smoothadv-s[\d.]+|macer-s[\d.]+|random|own)-e[\d.]+-t\d+",


# Everything: tables, pictures, and what the report shows.
rule all:
    default_target: True
    input:
        expand("results/{table}.csv", table=shown_tables()),
        "results/findings.csv",
        rules.all_pictures.input,
