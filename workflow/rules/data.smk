# The data set, read once and kept as one checked HDF5 file.


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
        data=lookup(dpath="data", within=config),
        seed=lookup(dpath="seed", within=config),
        stamp=own_stamp(),
    script:
        "../scripts/make_data.py"
