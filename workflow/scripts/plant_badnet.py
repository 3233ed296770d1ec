"""Train a network with a backdoor, or, where none is asked for, a clean twin."""

from pathlib import Path

from mithridate import device
from mithridate.data.dataset import load_header, load_images, load_labels
from mithridate.job import logged
from mithridate.options.badnet import PlantedOptions, PruningAwareOptions
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.repair.networks import Kind, read_network, write_networks
from mithridate.repair.planting import held_out_rows, plant, train_twin
from mithridate.training.inputs import recipe_for

with logged(snakemake.log[0]):
    params, data, number = snakemake.params, snakemake.input.data, int(snakemake.wildcards.number)
    device.prepare(params.device)
    header, how = load_header(data), dict(params.planting)
    rows, _ = held_out_rows(header.n_train, params.held_out, params.seed)
    known = load_images(data, "train")[rows], load_labels(data, "train")[rows]
    recipe = recipe_for(header, how["training"], model=params.model, seed=params.seed, device=params.device)
    progress = Progress("networks trained", 1)
    work = {"checkpoints": Path("results/checkpoints"), "progress": progress}
    if "aware" in how:
        work |= {"aware": PruningAwareOptions(**how["aware"]), "layer": how["layer"]}
        work["twin"] = read_network(snakemake.input.twin[0], params.device, own=params.model)[0]
    if planted := how.get("planted"):
        made = plant(*known, PlantedOptions(**planted), number, recipe, **work)
    else:
        made = train_twin(*known, number, recipe, **work)
    progress.finish()
    kind = Kind(params.model, header.shape, header.num_classes)
    notes = {"rows": {name: found.tolist() for name, found in made.rows.items()}, "decoys": made.decoys.tolist()}
    provenance = gather(snakemake.config, **device.describe(params.device))
    write_networks(snakemake.output[0], {"": made.tensors}, kind, provenance, planted=planted, number=number, **notes)
