# Partition aggregation: subsets, base classifiers, score matrix, certificates, tables.


rule partition_data:
    input:
        data="results/{dataset}/data/{variant}.h5",
    output:
        "results/{dataset}/dpa/{variant}/k{k}d1/subsets.h5",
    log:
        "results/logs/{dataset}/dpa/{variant}/k{k}d1/partition_data.log",
    benchmark:
        "results/benchmarks/{dataset}/dpa/{variant}/k{k}d1/partition_data.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("partition_data.py"),
        hash=lookup(dpath="dpa/hash", within=config),
    script:
        "../scripts/partition_data.py"


# One job trains a slice of the family in one thread; slices run side by side. Members that an interrupted job
# had finished are taken from results/checkpoints.
rule train_slice:
    input:
        data="results/{dataset}/data/{variant}.h5",
        subsets="results/{dataset}/dpa/{variant}/k{k}d1/subsets.h5",
    output:
        "results/{dataset}/dpa/{variant}/k{k}d1/models/{slice}.safetensors",
    log:
        "results/logs/{dataset}/dpa/{variant}/k{k}d1/train_slice/{slice}.log",
    benchmark:
        "results/benchmarks/{dataset}/dpa/{variant}/k{k}d1/train_slice/{slice}.tsv"
    retries: 1
    conda:
        "../../envs/mithridate.yaml"
    threads: 1
    resources:
        gpu=GPUS,
    params:
        code=code("train_slice.py", OPTIONS.dpa.model),
        model=lookup(dpath="dpa/model", within=config),
        training=lookup(dpath="dpa/training", within=config),
        seed=lookup(dpath="seed", within=config),
        device=DEVICE,
    script:
        "../scripts/train_slice.py"


rule score_slice:
    input:
        data="results/{dataset}/data/{variant}.h5",
        subsets="results/{dataset}/dpa/{variant}/k{k}d1/subsets.h5",
        models="results/{dataset}/dpa/{variant}/k{k}d1/models/{slice}.safetensors",
    output:
        temp("results/{dataset}/dpa/{variant}/k{k}d1/scores/{slice}.h5"),
    log:
        "results/logs/{dataset}/dpa/{variant}/k{k}d1/score_slice/{slice}.log",
    benchmark:
        "results/benchmarks/{dataset}/dpa/{variant}/k{k}d1/score_slice/{slice}.tsv"
    retries: 1
    conda:
        "../../envs/mithridate.yaml"
    threads: 1
    resources:
        gpu=GPUS,
    params:
        code=code("score_slice.py"),
        scoring=lookup(dpath="dpa/scoring", within=config),
        device=DEVICE,
    script:
        "../scripts/score_slice.py"


rule gather_scores:
    input:
        data="results/{dataset}/data/{variant}.h5",
        subsets="results/{dataset}/dpa/{variant}/k{k}d1/subsets.h5",
        scores=slices("results/{dataset}/dpa/{variant}/k{k}d1/scores/{slice}.h5"),
    output:
        "results/{dataset}/dpa/{variant}/k{k}d1/scores.h5",
    log:
        "results/logs/{dataset}/dpa/{variant}/k{k}d1/gather_scores.log",
    benchmark:
        "results/benchmarks/{dataset}/dpa/{variant}/k{k}d1/gather_scores.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("gather_scores.py"),
    script:
        "../scripts/gather_scores.py"


rule certify_examples:
    input:
        scores="results/{dataset}/dpa/{variant}/k{k}d1/scores.h5",
    output:
        certificates="results/{dataset}/dpa/{variant}/k{k}d1/certificates.csv.gz",
        members="results/{dataset}/dpa/{variant}/k{k}d1/members.csv",
    log:
        "results/logs/{dataset}/dpa/{variant}/k{k}d1/certify_examples.log",
    benchmark:
        "results/benchmarks/{dataset}/dpa/{variant}/k{k}d1/certify_examples.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("certify_examples.py"),
        methods=lookup(dpath="dpa/methods", within=config),
    script:
        "../scripts/certify_examples.py"


rule tabulate_certificates:
    input:
        certificates=expand(
            "results/{dataset}/dpa/clean/k{k}d1/certificates.csv.gz",
            dataset=OPTIONS.dataset,
            k=OPTIONS.dpa.k,
        ),
        members=expand(
            "results/{dataset}/dpa/clean/k{k}d1/members.csv",
            dataset=OPTIONS.dataset,
            k=OPTIONS.dpa.k,
        ),
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
        k=OPTIONS.dpa.k,
        confidence=lookup(dpath="confidence", within=config),
        model=lookup(dpath="dpa/model", within=config),
        hash=lookup(dpath="dpa/hash", within=config),
        training=lookup(dpath="dpa/training", within=config),
    script:
        "../scripts/tabulate_certificates.py"
