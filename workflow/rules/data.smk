# The data set, read once and kept as one checked HDF5 file; its poisoned variants, and the test images with a trigger.
# {place} is the data set itself, or a task of RAB made from it.


rule make_data:
    input:
        own=own_data(),
    output:
        "results/{dataset}/data/clean.h5",
    log:
        "results/logs/{dataset}/make_data.log",
    benchmark:
        "results/benchmarks/{dataset}/make_data.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("make_data.py"),
        # Where the data lies on this machine is no part of what it is.
        data={key: value for key, value in config["data"].items() if key != "root"},
        seed=config["seed"],
        stamp=own_stamp(),
    script:
        "../scripts/make_data.py"


rule poison_data:
    input:
        data="results/{place}/data/clean.h5",
        picture=trigger_picture,
    output:
        "results/{place}/data/{poisoned}.h5",
    log:
        "results/logs/{place}/poison_data/{poisoned}.log",
    benchmark:
        "results/benchmarks/{place}/poison_data/{poisoned}.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("poison_data.py"),
        attack=attack_of,
        seed=config["seed"],
    script:
        "../scripts/poison_data.py"


rule trigger_test_images:
    input:
        data="results/{place}/data/clean.h5",
        picture=trigger_picture,
    output:
        "results/{place}/data/triggered/{trigger}.h5",
    log:
        "results/logs/{place}/trigger_test_images/{trigger}.log",
    benchmark:
        "results/benchmarks/{place}/trigger_test_images/{trigger}.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("trigger_test_images.py"),
        attack=trigger_of,
        key=attack_key,
    script:
        "../scripts/trigger_test_images.py"
