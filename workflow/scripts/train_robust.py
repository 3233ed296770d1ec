"""Train a fresh network on original and adversarial images."""

from pathlib import Path

from mithridate import device
from mithridate.adversarial.adversarial_training import train_robust
from mithridate.adversarial.examples import load_examples
from mithridate.adversarial.targets import repeat_seed
from mithridate.data.dataset import load_header, load_pixels
from mithridate.job import logged
from mithridate.models.registry import builder, initialise
from mithridate.options.dgn import AdversarialTrainingOptions, GradientAttackOptions
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.repair.networks import Kind, state, write_networks
from mithridate.streams import Stream
from mithridate.training.snapshot import Snapshot

with logged(snakemake.log[0]):
    params, given, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    device.prepare(params.device)
    header, seed = load_header(given.data), repeat_seed(params.seed, int(wildcards.repeat))
    kind = Kind(params.model, header.shape, header.num_classes)
    # Initialised alike, whatever it is made robust against.
    fresh = initialise(builder(params.model), kind.shape, kind.num_classes, Stream("dgn robust", seed))
    options = (AdversarialTrainingOptions if given.examples else GradientAttackOptions)(**params.training)
    examples = load_examples(given.examples[0]) if given.examples else None
    progress = Progress(f"epochs of training against {wildcards.system}", options.adv_num_epochs)
    how = {"epsilon": params.epsilon, "name": wildcards.system, "seed": seed, "progress": progress}
    how |= {"device": params.device, "rows": examples.rows if examples else None}
    snapshot = Snapshot.of_job(snakemake, Path("results/checkpoints"))
    adversarial = examples.images if examples else None
    how |= {"snapshot": snapshot}
    made = train_robust(fresh.to(params.device), *load_pixels(given.data, "train"), adversarial, options, **how)
    progress.finish()
    provenance = gather(snakemake.config, **device.describe(params.device))
    write_networks(snakemake.output[0], {"": state(made)}, kind, provenance, system=wildcards.system)
    snapshot.remove()
