# Randomized smoothing, and how poisoning undoes it. A training set is "clean" or has a poison's name; any poison can be
# asked for by its file's name, whatever the configuration says.


rule make_poison:
    input:
        data="results/{dataset}/data/clean.h5",
    output:
        "results/{dataset}/smoothing/poison/{procedure}-s{noise}-e{epsilon}-t{target_class}.h5",
    log:
        "results/logs/{dataset}/smoothing/make_poison/{procedure}-s{noise}-e{epsilon}-t{target_class}.log",
    benchmark:
        "results/benchmarks/{dataset}/smoothing/make_poison/{procedure}-s{noise}-e{epsilon}-t{target_class}.tsv"
    retries: 1
    conda:
        "../../envs/mithridate.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        code=code("make_poison.py", OPTIONS.smoothing.model),
        model=config["smoothing"]["model"],
        attack=lambda wildcards: OPTIONS.smoothing.bilevel(wildcards.procedure).model_dump(mode="json"),
        constants=lambda wildcards: OPTIONS.smoothing.constants(wildcards.procedure).attack_constants(),
        seed=config["seed"],
        device=DEVICE,
    script:
        "../scripts/make_poison.py"


# The control: noise of the same size that nothing was optimised for.
rule make_random_poison:
    input:
        data="results/{dataset}/data/clean.h5",
    output:
        "results/{dataset}/smoothing/poison/random-e{epsilon}-t{target_class}.h5",
    log:
        "results/logs/{dataset}/smoothing/make_random_poison/random-e{epsilon}-t{target_class}.log",
    benchmark:
        "results/benchmarks/{dataset}/smoothing/make_random_poison/random-e{epsilon}-t{target_class}.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("make_random_poison.py"),
        seed=config["seed"],
    script:
        "../scripts/make_random_poison.py"


rule import_poison:
    input:
        data="results/{dataset}/data/clean.h5",
        own=own_splits(),
    output:
        "results/{dataset}/smoothing/poison/own-e{epsilon}-t{target_class}.h5",
    log:
        "results/logs/{dataset}/smoothing/import_poison/own-e{epsilon}-t{target_class}.log",
    benchmark:
        "results/benchmarks/{dataset}/smoothing/import_poison/own-e{epsilon}-t{target_class}.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("import_poison.py"),
        own=config["smoothing"]["own"],
        seed=config["seed"],
    script:
        "../scripts/import_poison.py"


# For other programs: training, held-out and test images as the original attack's code reads and writes them.
rule export_splits:
    input:
        data="results/{dataset}/data/clean.h5",
        poison=poison_file,
    output:
        expand(
            "results/{dataset}/smoothing/splits/{training_set}/{letter}_{split}.npy",
            letter=["X", "Y"],
            split=["train", "val", "test"],
            allow_missing=True,
        ),
    log:
        "results/logs/{dataset}/smoothing/export_splits/{training_set}.log",
    benchmark:
        "results/benchmarks/{dataset}/smoothing/export_splits/{training_set}.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("export_splits.py"),
        quantised=sees_grey_levels,
    script:
        "../scripts/export_splits.py"


rule train_victims:
    input:
        data="results/{dataset}/data/clean.h5",
        poison=poison_file,
    output:
        "results/{dataset}/smoothing/{training_set}/{procedure}-s{noise}{other}/victims.safetensors",
    log:
        "results/logs/{dataset}/smoothing/{training_set}/{procedure}-s{noise}{other}/train_victims.log",
    benchmark:
        "results/benchmarks/{dataset}/smoothing/{training_set}/{procedure}-s{noise}{other}/train_victims.tsv"
    retries: 1
    conda:
        "../../envs/mithridate.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        code=lambda wildcards: code("train_victims.py", victim_model(wildcards)),
        model=lambda wildcards: victim_model(wildcards),
        training=lambda wildcards: OPTIONS.smoothing.victims(wildcards.procedure).model_dump(mode="json"),
        constants=lambda wildcards: OPTIONS.smoothing.constants(wildcards.procedure).victim_constants(),
        quantised=sees_grey_levels,
        seeds=config["smoothing"]["seeds"],
        seed=config["seed"],
        device=DEVICE,
    script:
        "../scripts/train_victims.py"


# A block of the test images under noise, for every seed's network; a block that is finished is not counted again.
rule certify_victims:
    input:
        data="results/{dataset}/data/clean.h5",
        victims="results/{dataset}/smoothing/{training_set}/{procedure}-s{noise}{other}/victims.safetensors",
    output:
        "results/{dataset}/smoothing/{training_set}/{procedure}-s{noise}{other}/certificates/{block}.csv.gz",
    log:
        "results/logs/{dataset}/smoothing/{training_set}/{procedure}-s{noise}{other}/certify_victims/{block}.log",
    benchmark:
        "results/benchmarks/{dataset}/smoothing/{training_set}/{procedure}-s{noise}{other}/certify_victims/{block}.tsv"
    retries: 1
    conda:
        "../../envs/mithridate.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        code=code("certify_victims.py"),
        target=config["smoothing"]["target"],
        certify={key: value for key, value in config["smoothing"]["certify"].items() if key != "radii"},
        seed=config["seed"],
        device=DEVICE,
    script:
        "../scripts/certify_victims.py"


if VICTIMS:

    rule tabulate_smoothing:
        input:
            certificates=[file for victim in VICTIMS for file in victim_certificates(victim)],
        output:
            cert="results/smoothing_cert.csv",
            claims="results/smoothing_claims.csv",
        log:
            "results/logs/tabulate_smoothing.log",
        benchmark:
            "results/benchmarks/tabulate_smoothing.tsv"
        conda:
            "../../envs/mithridate.yaml"
        params:
            code=code("tabulate_smoothing.py"),
            dataset=OPTIONS.dataset,
            smoothing=config["smoothing"],
            confidence=config["confidence"],
        script:
            "../scripts/tabulate_smoothing.py"

else:

    rule refuse_smoothing:
        output:
            cert="results/smoothing_cert.csv",
            claims="results/smoothing_claims.csv",
        log:
            "results/logs/refuse_smoothing.log",
        conda:
            "../../envs/mithridate.yaml"
        params:
            code=code("refuse.py"),
            reason="smoothing.procedures is empty, so there is nothing to certify: name one.",
        script:
            "../scripts/refuse.py"
