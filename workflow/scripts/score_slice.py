"""Score the clean and the triggered test images with the members of one slice."""

from pathlib import Path

from mithridate import device
from mithridate.data.dataset import load_header, load_images
from mithridate.data.partition import load_subsets
from mithridate.job import logged
from mithridate.options.attacks import CLEAN
from mithridate.options.dpa import ScoringOptions
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.scoring.scores import Scorer, write_slice_scores
from mithridate.training.slices import boost_of, read_slice

with logged(snakemake.log[0]):
    device.prepare(snakemake.params.device)
    params, data = snakemake.params, snakemake.input.data
    header, subsets = load_header(data), load_subsets(snakemake.input.subsets)
    family, recipe = read_slice(snakemake.input.models)
    ids, options = family.subset_ids, ScoringOptions(**params.scoring)
    settings = {"scale": header.scale, "model": recipe["model"], "num_classes": header.num_classes}
    shown = {CLEAN: data} if params.clean else {}
    triggered = snakemake.input.triggered
    shown |= {Path(path).stem: path for path in ([triggered] if isinstance(triggered, str) else triggered)}
    progress = Progress(f"slice {snakemake.wildcards.slice}: base classifiers scored", len(ids) * len(shown))
    scorer = Scorer(load_images(data, "test"), **settings, options=options, device=params.device)
    scores = {}
    for name, path in shown.items():
        scorer.show(load_images(path, "test"))
        scores[name] = scorer.score(family, subsets.mean[ids], subsets.std[ids], progress)
    progress.finish()
    provenance = gather(snakemake.config, **device.describe(params.device))
    boost = boost_of(snakemake.wildcards.boost)
    write_slice_scores(snakemake.output[0], family, scores, options, header.sha256, provenance, boost)
