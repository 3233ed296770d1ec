# Repair of backdoored networks. {net} is a network's folder: badnet/{name} for one of your own, {dataset}/badnet/… for a
# planted one. What repairs takes clean held-out images alone; files of test and triggered images go into judge_file and
# pictures, from which no repair takes anything.


rule hold_out_images:
    input:
        data="results/{dataset}/data/clean.h5",
    output:
        held_out="results/{dataset}/badnet/data/held_out.h5",
        test="results/{dataset}/badnet/data/test.h5",
    log:
        "results/logs/{dataset}/badnet/hold_out_images.log",
    benchmark:
        "results/benchmarks/{dataset}/badnet/hold_out_images.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("hold_out_images.py"),
        held_out=config["badnet"]["held_out"],
        seed=config["seed"],
    script:
        "../scripts/hold_out_images.py"


rule stamp_test_images:
    input:
        data="results/{dataset}/data/clean.h5",
    output:
        "results/{dataset}/badnet/data/{stamp}-t{target_class}.h5",
    log:
        "results/logs/{dataset}/badnet/stamp_test_images/{stamp}-t{target_class}.log",
    benchmark:
        "results/benchmarks/{dataset}/badnet/stamp_test_images/{stamp}-t{target_class}.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("stamp_test_images.py"),
    script:
        "../scripts/stamp_test_images.py"


rule train_twin:
    input:
        data="results/{dataset}/data/clean.h5",
    output:
        "results/{dataset}/badnet/clean-n{number}/network.safetensors",
    log:
        "results/logs/{dataset}/badnet/train_twin/{number}.log",
    benchmark:
        "results/benchmarks/{dataset}/badnet/train_twin/{number}.tsv"
    retries: 1
    conda:
        "../../envs/mithridate.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        code=code("plant_badnet.py", OPTIONS.badnet.model),
        planting={"training": config["badnet"]["training"]},
        model=config["badnet"]["model"],
        held_out=config["badnet"]["held_out"],
        seed=config["seed"],
        device=DEVICE,
    script:
        "../scripts/plant_badnet.py"


rule plant_badnet:
    input:
        data="results/{dataset}/data/clean.h5",
        twin=twin_of_aware,
    output:
        "results/{dataset}/badnet/{planted}-n{number}/goodnet/suspicious.safetensors",
    log:
        "results/logs/{dataset}/badnet/{planted}-n{number}/plant_badnet.log",
    benchmark:
        "results/benchmarks/{dataset}/badnet/{planted}-n{number}/plant_badnet.tsv"
    retries: 1
    conda:
        "../../envs/mithridate.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        code=code("plant_badnet.py", OPTIONS.badnet.model),
        planting=how_planted,
        model=config["badnet"]["model"],
        held_out=config["badnet"]["held_out"],
        seed=config["seed"],
        device=DEVICE,
    script:
        "../scripts/plant_badnet.py"


rule import_badnet:
    input:
        network=lambda wildcards: NETS[f"badnet/{wildcards.own}"].own.path,
        held_out=lambda wildcards: NETS[f"badnet/{wildcards.own}"].held_out,
    output:
        "results/badnet/{own}/goodnet/suspicious.safetensors",
    log:
        "results/logs/badnet/{own}/import_badnet.log",
    benchmark:
        "results/benchmarks/badnet/{own}/import_badnet.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("import_badnet.py", "deepid"),
        scale=lambda wildcards: NETS[f"badnet/{wildcards.own}"].own.scale,
    script:
        "../scripts/import_badnet.py"


rule repair_badnet:
    input:
        network="results/{net}/goodnet/suspicious.safetensors",
        held_out=held_out_file,
    output:
        repairs="results/{net}/repairs.safetensors",
        delivered="results/{net}/goodnet/repaired.safetensors",
        curve="results/{net}/pruning.csv",
    log:
        "results/logs/{net}/repair_badnet.log",
    benchmark:
        "results/benchmarks/{net}/repair_badnet.tsv"
    retries: 1
    conda:
        "../../envs/mithridate.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        code=lambda wildcards: code("repair_badnet.py", repaired_model(wildcards)),
        model=repaired_model,
        repair=repair_options(),
        # Of the orders of fine-tuning: what was planted, whatever the data set or a network of one's own is called.
        name=lambda wildcards: "own" if NETS[wildcards.net].own else Path(wildcards.net).name,
        seed=config["seed"],
        device=DEVICE,
    script:
        "../scripts/repair_badnet.py"


rule calibrate_strip:
    input:
        network="results/{net}/goodnet/suspicious.safetensors",
        held_out=held_out_file,
    output:
        "results/{net}/goodnet/strip.h5",
    log:
        "results/logs/{net}/calibrate_strip.log",
    benchmark:
        "results/benchmarks/{net}/calibrate_strip.tsv"
    retries: 1
    conda:
        "../../envs/mithridate.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        code=lambda wildcards: code("calibrate_strip.py", repaired_model(wildcards)),
        model=repaired_model,
        split=config["badnet"]["split"],
        strip=config["badnet"]["strip"],
        seed=config["seed"],
        device=DEVICE,
    script:
        "../scripts/calibrate_strip.py"


# The folder goodnet/ is all that `mithridate badnet classify` needs.
rule deliver_goodnet:
    input:
        "results/{net}/goodnet/suspicious.safetensors",
        "results/{net}/goodnet/repaired.safetensors",
        "results/{net}/goodnet/strip.h5",
    output:
        "results/{net}/goodnet/goodnet.json",
    log:
        "results/logs/{net}/deliver_goodnet.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("deliver_goodnet.py"),
        rule=config["badnet"]["rule"],
    script:
        "../scripts/deliver_goodnet.py"


rule export_keras:
    input:
        repaired="results/{net}/goodnet/repaired.safetensors",
        like=keras_example,
    output:
        "results/{net}/goodnet/repaired.h5",
    log:
        "results/logs/{net}/export_keras.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("export_keras.py", "deepid"),
    script:
        "../scripts/export_keras.py"


# What every network and STRIP say of one file's images.
rule judge_file:
    input:
        network="results/{net}/goodnet/suspicious.safetensors",
        repairs="results/{net}/repairs.safetensors",
        curve="results/{net}/pruning.csv",
        strip="results/{net}/goodnet/strip.h5",
        twin=twin_network,
        file=judged_file,
    output:
        "results/{net}/judged/{file}.h5",
    log:
        "results/logs/{net}/judge_file/{file}.log",
    benchmark:
        "results/benchmarks/{net}/judge_file/{file}.tsv"
    retries: 1
    conda:
        "../../envs/mithridate.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        code=lambda wildcards: code("judge_file.py", repaired_model(wildcards)),
        model=repaired_model,
        triggered=lambda wildcards: wildcards.file in NETS[wildcards.net].triggered,
        pruning=config["badnet"]["pruning"],
        layer=config["badnet"]["layer"] if OPTIONS.badnet.pruning == "channels" else None,
        device=DEVICE,
    script:
        "../scripts/judge_file.py"


# For trying out the evaluation, and to see what is in a file: a few of its images as PNG.
rule sample_images:
    input:
        file=judged_file,
    output:
        expand("results/{net}/samples/{file}-{n}.png", n=range(SAMPLES), allow_missing=True),
        listing="results/{net}/samples/{file}.csv",
    log:
        "results/logs/{net}/sample_images/{file}.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("sample_images.py"),
        seed=config["seed"],
    script:
        "../scripts/sample_images.py"


if NETS:

    rule tabulate_badnets:
        input:
            judged=[f"results/{folder}/judged/{file}.h5" for folder, net in NETS.items() for file in net.files],
            repairs=expand("results/{net}/repairs.safetensors", net=NETS),
            strips=expand("results/{net}/goodnet/strip.h5", net=NETS),
            # What comes out beside the table.
            delivered=expand("results/{net}/goodnet/goodnet.json", net=NETS),
            keras=keras_files(),
        output:
            "results/badnet_repair.csv",
        log:
            "results/logs/tabulate_badnets.log",
        benchmark:
            "results/benchmarks/tabulate_badnets.tsv"
        conda:
            "../../envs/mithridate.yaml"
        params:
            code=code("tabulate_badnets.py"),
            dataset=OPTIONS.enlarged,
            badnet=config["badnet"],
            confidence=config["confidence"],
        script:
            "../scripts/tabulate_badnets.py"

else:

    rule refuse_badnet:
        output:
            "results/badnet_repair.csv",
        log:
            "results/logs/refuse_badnet.log",
        conda:
            "../../envs/mithridate.yaml"
        params:
            code=code("refuse.py"),
            reason="badnet.nets and badnet.planted are both empty, so there is nothing to repair: name a network.",
        script:
            "../scripts/refuse.py"
