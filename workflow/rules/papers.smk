# The papers' published numbers and claims beside ours, and what is kept of a run in docs/results.


# Hardware, versions and time of one part, in a file that can be carried to another machine with the tables.
rule sum_up_part:
    input:
        lambda wildcards: expand("results/{table}.csv", table=mithridate.findings.parts.TABLES[wildcards.part]),
    output:
        "results/runs/{part}.json",
    log:
        "results/logs/sum_up_part/{part}.log",
    wildcard_constraints:
        part=any_of(mithridate.findings.parts.TABLES),
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("sum_up_part.py"),
        configuration=lambda wildcards: mithridate.findings.configuration.of_part(wildcards.part, OPTIONS),
        changed=lambda wildcards: mithridate.findings.configuration.changed(wildcards.part, OPTIONS),
        command=lambda wildcards: mithridate.findings.configuration.repeat(wildcards.part, OPTIONS, own_files()),
    script:
        "../scripts/sum_up_part.py"


rule tabulate_findings:
    input:
        runs=expand("results/runs/{part}.json", part=shown_parts()),
        tables=expand("results/{table}.csv", table=shown_tables()),
        papers=["config/mnist.yaml", "config/cifar10.yaml"],
    output:
        "results/findings.csv",
    log:
        "results/logs/tabulate_findings.log",
    benchmark:
        "results/benchmarks/tabulate_findings.tsv"
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("tabulate_findings.py", table="findings/published.csv"),
    script:
        "../scripts/tabulate_findings.py"


# Writes docs/results/NAME, the run's name being that of its configuration files, and the page over all recorded runs.
rule record:
    input:
        "results/findings.csv",
        recorded_pictures(),
    log:
        "results/logs/record.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("record.py", table="findings/published.csv"),
        name="-".join(Path(file).stem for file in own_files()) or OPTIONS.dataset,
        parts=shown_parts(),
    script:
        "../scripts/record.py"
