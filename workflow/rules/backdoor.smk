# What backdoors do to the ensembles and to one undefended classifier, and that no attack beats a certificate.


# One classifier on the whole training set (k = 1), and what it says of clean and triggered test images.
rule train_single:
    input:
        data="results/{dataset}/data/{variant}.h5",
        triggered=all_triggered_images,
    output:
        model="results/{dataset}/single/{variant}/model.safetensors",
        predictions="results/{dataset}/single/{variant}/predictions.csv.gz",
    log:
        "results/logs/{dataset}/single/{variant}/train_single.log",
    benchmark:
        "results/benchmarks/{dataset}/single/{variant}/train_single.tsv"
    retries: 1
    conda:
        "../../envs/mithridate.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        code=code("train_single.py", OPTIONS.single.model),
        single=config["single"],
        seed=config["seed"],
        device=DEVICE,
    script:
        "../scripts/train_single.py"


# Fails where a poisoned variant changed a prediction that it cannot have changed, or that was certified.
rule check_attack:
    input:
        data="results/{dataset}/data/{poisoned}.h5",
        subsets=expand(
            "results/{{dataset}}/dpa/{variant}/k{{k}}d{{d}}/subsets.h5",
            variant=["clean", "{poisoned}"],
        ),
        before=lambda wildcards: attack_scores(wildcards, "clean"),
        after=lambda wildcards: attack_scores(wildcards, wildcards.poisoned),
    output:
        "results/{dataset}/dpa/{poisoned}/k{k}d{d}{seeds}/check.csv",
    log:
        "results/logs/{dataset}/dpa/{poisoned}/k{k}d{d}{seeds}/check_attack.log",
    benchmark:
        "results/benchmarks/{dataset}/dpa/{poisoned}/k{k}d{d}{seeds}/check_attack.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("check_attack.py"),
        methods=methods_of,
        inputs=lambda wildcards: RUNS.inputs(wildcards.poisoned),
    script:
        "../scripts/check_attack.py"


# Real attacks on single test images, by an attacker who knows all votes and retrains what it poisons.
rule attack_greedily:
    input:
        data="results/{dataset}/data/clean.h5",
        subsets="results/{dataset}/dpa/clean/k{k}d1/subsets.h5",
        scores="results/{dataset}/dpa/clean/k{k}d1/scores.h5",
    output:
        "results/{dataset}/dpa/clean/k{k}d1/greedy.csv",
    log:
        "results/logs/{dataset}/dpa/clean/k{k}d1/attack_greedily.log",
    benchmark:
        "results/benchmarks/{dataset}/dpa/clean/k{k}d1/attack_greedily.tsv"
    retries: 1
    conda:
        "../../envs/mithridate.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        code=code("attack_greedily.py", OPTIONS.dpa.model),
        model=config["dpa"]["model"],
        training=config["dpa"]["training"],
        scoring=config["dpa"]["scoring"],
        points=config["greedy"]["points"],
        seed=config["seed"],
        device=DEVICE,
    script:
        "../scripts/attack_greedily.py"


if ATTACKS:

    rule tabulate_backdoors:
        input:
            singles=expand(
                "results/{dataset}/single/{variant}/predictions.csv.gz",
                dataset=OPTIONS.dataset,
                variant=["clean", *RUNS.variants],
            ),
            certificates=expand(
                "results/{dataset}/dpa/{run}certificates.csv.gz",
                dataset=OPTIONS.dataset,
                run=run_folders(RUNS.all()),
            ),
            checks=attack_checks(),
            data=expand(
                "results/{dataset}/data/{variant}.h5",
                dataset=OPTIONS.dataset,
                variant=list(RUNS.variants),
            ),
        output:
            runs="results/backdoor_runs.csv",
            matrix="results/backdoor_matrix.csv",
        log:
            "results/logs/tabulate_backdoors.log",
        benchmark:
            "results/benchmarks/tabulate_backdoors.tsv"
        conda:
            "../../envs/mithridate.yaml"
        params:
            code=code("tabulate_backdoors.py"),
            dataset=OPTIONS.dataset,
            attacks=config["attacks"],
            single=["clean", *RUNS.variants],
            runs=[run.row() for run in RUNS.all()],
            checked=[{"variant": name, **ensemble.row()} for name, ensemble in RUNS.attacked()],
            confidence=config["confidence"],
        script:
            "../scripts/tabulate_backdoors.py"

else:

    rule refuse_backdoors:
        output:
            runs="results/backdoor_runs.csv",
            matrix="results/backdoor_matrix.csv",
        log:
            "results/logs/refuse_backdoors.log",
        conda:
            "../../envs/mithridate.yaml"
        params:
            code=code("refuse.py"),
            reason="attacks is empty, so there are no backdoors to tabulate: configure one.",
        script:
            "../scripts/refuse.py"
