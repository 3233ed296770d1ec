"""Certify every test image and write one row per image and method."""

from mithridate.artefacts import write_csv
from mithridate.certify.streaming import certify_blocks
from mithridate.job import logged
from mithridate.scoring.files import member_table, open_scores

with logged(snakemake.log[0]), open_scores(snakemake.input.scores) as scores:
    certified = certify_blocks(
        scores.blocks(),
        scores.labels,
        snakemake.params.methods,
        subset_ids=scores.subset_ids,
        shifts=scores.shifts,
        where=snakemake.input.scores,
    )
    write_csv(snakemake.output.certificates, certified.rows)
    write_csv(snakemake.output.members, member_table(scores, certified.base_accuracy))
