# Partition aggregation: subsets, base classifiers, score matrix, certificates, tables.
# {d} is the number of subsets a bucket goes into (1: partitions; more: Finite Aggregation), {boost} a further base
# classifier of the same subset, {seeds} how many of them are added up, {inputs} the folder of triggered test images.


rule partition_data:
    input:
        data="results/{dataset}/data/{variant}.h5",
    output:
        "results/{dataset}/dpa/{variant}/k{k}d{d}/subsets.h5",
    log:
        "results/logs/{dataset}/dpa/{variant}/k{k}d{d}/partition_data.log",
    benchmark:
        "results/benchmarks/{dataset}/dpa/{variant}/k{k}d{d}/partition_data.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("partition_data.py"),
        hash=config["dpa"]["hash"],
    script:
        "../scripts/partition_data.py"


# One job trains a slice of the family in one thread; slices run side by side. Members that an interrupted job
# had finished are taken from results/checkpoints.
rule train_slice:
    input:
        data="results/{dataset}/data/clean.h5",
        subsets="results/{dataset}/dpa/clean/k{k}d{d}/subsets.h5",
    output:
        "results/{dataset}/dpa/clean/k{k}d{d}/models/{slice}{boost}.safetensors",
    log:
        "results/logs/{dataset}/dpa/clean/k{k}d{d}/train_slice/{slice}{boost}.log",
    benchmark:
        "results/benchmarks/{dataset}/dpa/clean/k{k}d{d}/train_slice/{slice}{boost}.tsv"
    retries: 1
    conda:
        "../../envs/mithridate.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        code=code("train_slice.py", OPTIONS.dpa.model),
        model=config["dpa"]["model"],
        training=config["dpa"]["training"],
        seed=config["seed"],
        device=DEVICE,
    script:
        "../scripts/train_slice.py"


# Of a poisoned variant only the base classifiers whose subset changed are trained; the others are the clean variant's.
use rule train_slice as train_poisoned_slice with:
    input:
        data="results/{dataset}/data/{poisoned}.h5",
        subsets="results/{dataset}/dpa/{poisoned}/k{k}d{d}/subsets.h5",
        known=dpa_slices("results/{dataset}/dpa/{variant}/k{k}d{d}/models/{slice}{{boost}}.safetensors", "clean"),
    output:
        "results/{dataset}/dpa/{poisoned}/k{k}d{d}/models/{slice}{boost}.safetensors",
    log:
        "results/logs/{dataset}/dpa/{poisoned}/k{k}d{d}/train_slice/{slice}{boost}.log",
    benchmark:
        "results/benchmarks/{dataset}/dpa/{poisoned}/k{k}d{d}/train_slice/{slice}{boost}.tsv"


# A poisoned variant's base classifiers see the clean test images and its own trigger's in one job, the clean variant's
# see each trigger's in another, so that a further trigger leaves their scores of the clean images as they are.
rule score_slice:
    input:
        data="results/{dataset}/data/{variant}.h5",
        triggered=triggered_images,
        subsets="results/{dataset}/dpa/{variant}/k{k}d{d}/subsets.h5",
        models="results/{dataset}/dpa/{variant}/k{k}d{d}/models/{slice}{boost}.safetensors",
    output:
        temp("results/{dataset}/dpa/{variant}/k{k}d{d}/scores/{slice}{boost}.h5"),
    log:
        "results/logs/{dataset}/dpa/{variant}/k{k}d{d}/score_slice/{slice}{boost}.log",
    benchmark:
        "results/benchmarks/{dataset}/dpa/{variant}/k{k}d{d}/score_slice/{slice}{boost}.tsv"
    retries: 1
    conda:
        "../../envs/mithridate.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        code=code("score_slice.py"),
        scoring=config["dpa"]["scoring"],
        device=DEVICE,
        clean=True,
    script:
        "../scripts/score_slice.py"


use rule score_slice as score_triggered_slice with:
    input:
        data="results/{dataset}/data/clean.h5",
        triggered="results/{dataset}/data/triggered/{trigger}.h5",
        subsets="results/{dataset}/dpa/clean/k{k}d{d}/subsets.h5",
        models="results/{dataset}/dpa/clean/k{k}d{d}/models/{slice}{boost}.safetensors",
    output:
        temp("results/{dataset}/dpa/clean/k{k}d{d}/triggered/{trigger}/scores/{slice}{boost}.h5"),
    log:
        "results/logs/{dataset}/dpa/clean/k{k}d{d}/triggered/{trigger}/score_slice/{slice}{boost}.log",
    benchmark:
        "results/benchmarks/{dataset}/dpa/clean/k{k}d{d}/triggered/{trigger}/score_slice/{slice}{boost}.tsv"
    params:
        code=code("score_slice.py"),
        scoring=config["dpa"]["scoring"],
        device=DEVICE,
        clean=False,


rule gather_scores:
    input:
        data="results/{dataset}/data/clean.h5",
        subsets="results/{dataset}/dpa/{variant}/k{k}d{d}/subsets.h5",
        scores=scored_slices,
    output:
        "results/{dataset}/dpa/{variant}/k{k}d{d}{seeds}/{inputs}scores.h5",
    log:
        "results/logs/{dataset}/dpa/{variant}/k{k}d{d}{seeds}/{inputs}gather_scores.log",
    benchmark:
        "results/benchmarks/{dataset}/dpa/{variant}/k{k}d{d}{seeds}/{inputs}gather_scores.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("gather_scores.py"),
    script:
        "../scripts/gather_scores.py"


rule certify_examples:
    input:
        scores="results/{dataset}/dpa/{variant}/k{k}d{d}{seeds}/{inputs}scores.h5",
    output:
        certificates="results/{dataset}/dpa/{variant}/k{k}d{d}{seeds}/{inputs}certificates.csv.gz",
        members="results/{dataset}/dpa/{variant}/k{k}d{d}{seeds}/{inputs}members.csv",
    log:
        "results/logs/{dataset}/dpa/{variant}/k{k}d{d}{seeds}/{inputs}certify_examples.log",
    benchmark:
        "results/benchmarks/{dataset}/dpa/{variant}/k{k}d{d}{seeds}/{inputs}certify_examples.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("certify_examples.py"),
        methods=methods_of,
    script:
        "../scripts/certify_examples.py"


rule certify_collective:
    input:
        scores="results/{dataset}/dpa/clean/k{k}d1{seeds}/scores.h5",
    output:
        "results/{dataset}/dpa/clean/k{k}d1{seeds}/collective.csv",
    log:
        "results/logs/{dataset}/dpa/clean/k{k}d1{seeds}/certify_collective.log",
    benchmark:
        "results/benchmarks/{dataset}/dpa/clean/k{k}d1{seeds}/certify_collective.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("certify_collective.py"),
        options=config["dpa"]["collective"],
    script:
        "../scripts/certify_collective.py"


rule tabulate_certificates:
    input:
        certificates=expand(
            "results/{dataset}/dpa/{run}certificates.csv.gz",
            dataset=OPTIONS.dataset,
            run=run_folders(RUNS.all()),
        ),
        members=expand(
            "results/{dataset}/dpa/{run}members.csv",
            dataset=OPTIONS.dataset,
            run=run_folders(RUNS.all()),
        ),
        collective=expand(
            "results/{dataset}/dpa/clean/{ensemble}/collective.csv",
            dataset=OPTIONS.dataset,
            ensemble=[e.name for e in RUNS.collective()],
        ),
        checks=attack_checks(),
    output:
        cert="results/dpa_cert.csv",
        summary="results/dpa_summary.csv",
    log:
        "results/logs/tabulate_certificates.log",
    benchmark:
        "results/benchmarks/tabulate_certificates.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("tabulate_certificates.py"),
        dataset=OPTIONS.dataset,
        runs=[run.row() for run in RUNS.all()],
        collective=[e.row() for e in RUNS.collective()],
        confidence=config["confidence"],
    script:
        "../scripts/tabulate_certificates.py"
