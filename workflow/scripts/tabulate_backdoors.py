"""What each backdoor does to one undefended classifier and to the ensembles: run by run, and over the seeds."""

from mithridate.artefacts import read_csv, write_csv
from mithridate.certify.backdoor import Results, matrix, runs
from mithridate.data.poison import load_poisoned_index
from mithridate.job import logged
from mithridate.options.attacks import CLEAN, DpaAttackOptions

with logged(snakemake.log[0]):
    params, given = snakemake.params, snakemake.input
    singles, certificates, checks = {}, {}, {}
    for variant, path in zip(params.single, given.singles, strict=True):
        for trigger, table in read_csv(path, keep_default_na=False).groupby("trigger"):
            singles[variant, trigger] = table
    for run, path in zip(params.runs, given.certificates, strict=True):
        for method, table in read_csv(path).groupby("method"):
            certificates[run["variant"], run["trigger"], (run["k"], run["d"], run["seeds"]), method] = table
    for run, path in zip(params.checked, given.checks, strict=True):
        checks[run["variant"], run["k"], run["d"], run["seeds"]] = read_csv(path, keep_default_na=False)
    counts = {name: len(load_poisoned_index(path)) for name, path in zip(params.single[1:], given.data, strict=True)}
    attacks = [DpaAttackOptions(**attack) for attack in params.attacks]
    table = runs(attacks, Results(singles, certificates, checks, {CLEAN: 0, **counts}))
    table.insert(0, "dataset", params.dataset)
    write_csv(snakemake.output.runs, table)
    write_csv(snakemake.output.matrix, matrix(table, params.confidence))
