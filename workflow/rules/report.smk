# Pictures and tables of the report. A label with two values becomes a toggle there, and every combination of toggles must
# exist; hence subcategories.


rule plot_certified_accuracy:
    input:
        cert="results/dpa_cert.csv",
    output:
        picture=report(
            "results/pictures/certified_accuracy.svg",
            caption="../report/picture.rst",
            category="Partition aggregation",
            subcategory="Overview",
            labels={"result": "certified accuracy"},
        ),
        caption="results/pictures/certified_accuracy.rst",
    log:
        "results/logs/plot_certified_accuracy.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_certified_accuracy.py"),
        confidence=lookup(dpath="confidence", within=config),
    script:
        "../scripts/plot_certified_accuracy.py"


rule plot_family:
    input:
        certificates="results/{dataset}/dpa/{variant}/k{k}d1/certificates.csv.gz",
        members="results/{dataset}/dpa/{variant}/k{k}d1/members.csv",
    output:
        vote_margins=report(
            "results/{dataset}/dpa/{variant}/k{k}d1/pictures/vote_margins.svg",
            caption="../report/vote_margins.rst",
            category="Partition aggregation",
            subcategory="k = {k}",
            labels={"result": "vote margins"},
        ),
        vote_margins_caption="results/{dataset}/dpa/{variant}/k{k}d1/pictures/vote_margins.rst",
        partition_sizes=report(
            "results/{dataset}/dpa/{variant}/k{k}d1/pictures/partition_sizes.svg",
            caption="../report/partition_sizes.rst",
            category="Partition aggregation",
            subcategory="k = {k}",
            labels={"result": "partition sizes"},
        ),
        partition_sizes_caption="results/{dataset}/dpa/{variant}/k{k}d1/pictures/partition_sizes.rst",
        base_accuracies=report(
            "results/{dataset}/dpa/{variant}/k{k}d1/pictures/base_accuracies.svg",
            caption="../report/base_accuracies.rst",
            category="Partition aggregation",
            subcategory="k = {k}",
            labels={"result": "base accuracies"},
        ),
        base_accuracies_caption="results/{dataset}/dpa/{variant}/k{k}d1/pictures/base_accuracies.rst",
    log:
        "results/logs/{dataset}/dpa/{variant}/k{k}d1/plot_family.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_family.py"),
    script:
        "../scripts/plot_family.py"


rule describe_run:
    input:
        expand(
            "results/{dataset}/dpa/clean/k{k}d1/scores.h5",
            dataset=OPTIONS.dataset,
            k=OPTIONS.dpa.k[0],
        ),
    output:
        "results/pictures/run.rst",
    log:
        "results/logs/describe_run.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("describe_run.py"),
    script:
        "../scripts/describe_run.py"


rule show_table:
    input:
        table="results/dpa_{table}.csv",
    output:
        report(
            "results/pictures/dpa_{table}.html",
            caption="../report/table.rst",
            category="Partition aggregation",
            subcategory="Overview",
            labels={"result": "table dpa_{table}.csv"},
        ),
    log:
        "results/logs/show_table_{table}.log",
    wildcard_constraints:
        table="cert|summary",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("show_table.py"),
    script:
        "../scripts/show_table.py"


rule all_pictures:
    input:
        "results/pictures/certified_accuracy.svg",
        "results/pictures/run.rst",
        expand("results/pictures/dpa_{table}.html", table=["cert", "summary"]),
        expand(
            "results/{dataset}/dpa/clean/k{k}d1/pictures/{picture}.svg",
            dataset=OPTIONS.dataset,
            k=OPTIONS.dpa.k,
            picture=["vote_margins", "partition_sizes", "base_accuracies"],
        ),
