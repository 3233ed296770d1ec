# The contents page: what this workflow makes, and where each part is written down.
from snakemake.utils import min_version

min_version("9.20")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


# Jobs a family's training is cut into; change with --set-scatter slices=N (results do not depend on it).
scattergather:
    slices=4,


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/dpa.smk"
include: "workflow/rules/report.smk"


wildcard_constraints:
    dataset=OPTIONS.dataset,
    variant="clean",
    k=r"\d+",
    slice=r"\d+-of-\d+",


# Everything: tables, pictures, and what the report shows.
rule all:
    default_target: True
    input:
        "results/dpa_cert.csv",
        "results/dpa_summary.csv",
        rules.all_pictures.input,
