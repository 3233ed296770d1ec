# RAB: certified training against backdoors, by smoothing the training set.


rule select_classes:
    input:
        data="results/{dataset}/data/clean.h5",
    output:
        "results/{dataset}/rab/{task}/data/clean.h5",
    log:
        "results/logs/{dataset}/rab/{task}/select_classes.log",
    benchmark:
        "results/benchmarks/{dataset}/rab/{task}/select_classes.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("select_classes.py"),
        classes=config["rab"]["classes"],
        validation_fraction=config["data"]["validation_fraction"],
        seed=config["seed"],
    script:
        "../scripts/select_classes.py"


# One job trains a slice of the networks, each on its own noised copy of the training set; no copy is ever stored.
rule train_noised_slice:
    input:
        data="results/{dataset}/rab/{task}/data/{rab_variant}.h5",
    output:
        "results/{dataset}/rab/{task}/{rab_variant}/s{sigma}n{models}/models/{slice}.safetensors",
    log:
        "results/logs/{dataset}/rab/{task}/{rab_variant}/s{sigma}n{models}/train_noised_slice/{slice}.log",
    benchmark:
        "results/benchmarks/{dataset}/rab/{task}/{rab_variant}/s{sigma}n{models}/train_noised_slice/{slice}.tsv"
    retries: 1
    conda:
        "../../envs/mithridate.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        code=code("train_noised_slice.py", OPTIONS.rab.model),
        model=config["rab"]["model"],
        training=config["rab"]["training"],
        seed=config["seed"],
        device=DEVICE,
    script:
        "../scripts/train_noised_slice.py"


rule vote_noised:
    input:
        data="results/{dataset}/rab/{task}/data/{rab_variant}.h5",
        triggered=rab_triggered_images,
        models=rab_slices("results/{dataset}/rab/{task}/{rab_variant}/s{sigma}n{models}/models/{slice}.safetensors"),
    output:
        "results/{dataset}/rab/{task}/{rab_variant}/s{sigma}n{models}/votes.h5",
    log:
        "results/logs/{dataset}/rab/{task}/{rab_variant}/s{sigma}n{models}/vote_noised.log",
    benchmark:
        "results/benchmarks/{dataset}/rab/{task}/{rab_variant}/s{sigma}n{models}/vote_noised.tsv"
    retries: 1
    conda:
        "../../envs/mithridate.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        code=code("vote_noised.py"),
        batch_size=config["rab"]["batch_size"],
        device=DEVICE,
    script:
        "../scripts/vote_noised.py"


rule certify_noised:
    input:
        votes="results/{dataset}/rab/{task}/{rab_variant}/s{sigma}n{models}/votes.h5",
    output:
        "results/{dataset}/rab/{task}/{rab_variant}/s{sigma}n{models}/certificates.csv.gz",
    log:
        "results/logs/{dataset}/rab/{task}/{rab_variant}/s{sigma}n{models}/certify_noised.log",
    benchmark:
        "results/benchmarks/{dataset}/rab/{task}/{rab_variant}/s{sigma}n{models}/certify_noised.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("certify_noised.py"),
        alpha=config["rab"]["alpha"],
        bounds=config["rab"]["bounds"],
    script:
        "../scripts/certify_noised.py"


if OPTIONS.rab.models:

    rule tabulate_noised:
        input:
            certificates=expand(
                "results/{dataset}/rab/{task}/{variant}/s{sigma}n{models}/certificates.csv.gz",
                dataset=OPTIONS.dataset,
                task=OPTIONS.rab.task,
                variant=["clean", *RAB_VARIANTS],
                sigma=RAB_SIGMAS,
                models=OPTIONS.rab.models,
            ),
            data=expand(
                "results/{dataset}/rab/{task}/data/{variant}.h5",
                dataset=OPTIONS.dataset,
                task=OPTIONS.rab.task,
                variant=["clean", *RAB_VARIANTS],
            ),
        output:
            "results/rab_cert.csv",
        log:
            "results/logs/tabulate_noised.log",
        benchmark:
            "results/benchmarks/tabulate_noised.tsv"
        conda:
            "../../envs/mithridate.yaml"
        params:
            code=code("tabulate_noised.py"),
            dataset=OPTIONS.dataset,
            variants=["clean", *RAB_VARIANTS],
            runs=[[variant, sigma] for variant in ["clean", *RAB_VARIANTS] for sigma in OPTIONS.rab.sigma],
            rab=config["rab"],
            confidence=config["confidence"],
        script:
            "../scripts/tabulate_noised.py"

else:

    rule refuse_noised:
        output:
            "results/rab_cert.csv",
        log:
            "results/logs/refuse_noised.log",
        conda:
            "../../envs/mithridate.yaml"
        params:
            code=code("refuse.py"),
            reason="rab.models is 0, so there is nothing to certify: give the number of networks.",
        script:
            "../scripts/refuse.py"
