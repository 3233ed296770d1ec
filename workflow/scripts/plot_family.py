"""Draw a family's vote margins, partition sizes and base accuracies."""

from mithridate.artefacts import read_csv
from mithridate.job import logged
from mithridate.pictures.dpa import base_accuracies, partition_sizes, vote_margins
from mithridate.pictures.style import save

with logged(snakemake.log[0]):
    out, voters = snakemake.output, int(snakemake.wildcards.k) * int(snakemake.wildcards.d)
    certificates, members = read_csv(snakemake.input.certificates), read_csv(snakemake.input.members)
    save(vote_margins(certificates, voters), out.vote_margins, out.vote_margins_caption)
    save(partition_sizes(members), out.partition_sizes, out.partition_sizes_caption)
    save(base_accuracies(members), out.base_accuracies, out.base_accuracies_caption)
