"""Score every test image with the members of one slice."""

from mithridate import device
from mithridate.data.dataset import load_header, load_images
from mithridate.data.partition import load_subsets
from mithridate.job import logged
from mithridate.options.dpa import ScoringOptions
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.scoring.scores import Scorer, write_slice_scores
from mithridate.training.slices import read_slice

with logged(snakemake.log[0]):
    device.prepare(snakemake.params.device)
    params, data = snakemake.params, snakemake.input.data
    header, subsets = load_header(data), load_subsets(snakemake.input.subsets)
    family, recipe = read_slice(snakemake.input.models)
    options = ScoringOptions(**params.scoring)
    scorer = Scorer(
        load_images(data, "test"),
        scale=header.scale,
        model=recipe["model"],
        num_classes=header.num_classes,
        options=options,
        device=params.device,
    )
    progress = Progress(f"slice {snakemake.wildcards.slice}: base classifiers scored", len(family.subset_ids))
    ids = family.subset_ids
    scores = scorer.score(family, subsets.mean[ids], subsets.std[ids], progress)
    progress.finish()
    provenance = gather(snakemake.config, **device.describe(params.device))
    write_slice_scores(snakemake.output[0], family, scores, options, header.sha256, provenance)
