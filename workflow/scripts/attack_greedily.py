"""Attack single test images of a small ensemble for real, and compare with their certificates."""

from pathlib import Path

import numpy as np

from mithridate import device
from mithridate.artefacts import write_csv
from mithridate.attacks.greedy import Attacker, TrainingSet, attack_points, draw_points
from mithridate.data.dataset import load_images, load_labels, load_sums
from mithridate.job import logged
from mithridate.options.dpa import ScoringOptions
from mithridate.progress import Progress
from mithridate.scoring.files import open_scores
from mithridate.training.inputs import open_inputs, recipe_for

with logged(snakemake.log[0]):
    params, data = snakemake.params, snakemake.input.data
    device.prepare(params.device)
    inputs = open_inputs(data, snakemake.input.subsets)
    how = {"model": params.model, "seed": params.seed, "device": params.device}
    recipe = recipe_for(inputs.header, params.training, **how)
    known = (load_images(data, "train"), load_labels(data, "train"), load_sums(data))
    with open_scores(snakemake.input.scores) as file:
        scores = np.concatenate(list(file.blocks()))
    attacked = TrainingSet(*known, inputs.subsets, inputs.header)
    attacker = Attacker(attacked, recipe, ScoringOptions(**params.scoring), Path("results/checkpoints"))
    images, labels = load_images(data, "test"), load_labels(data, "test")
    points = draw_points(scores, labels, params.points, params.seed)
    progress = Progress("test images attacked", len(points))
    write_csv(snakemake.output[0], attack_points(attacker, images, labels, scores, points, progress))
    progress.finish()
