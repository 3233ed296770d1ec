"""Show one network every set of adversarial test images, and attack it itself."""

from mithridate import device
from mithridate.adversarial.evaluation import evaluate, for_classes, white_box
from mithridate.adversarial.examples import load_examples
from mithridate.adversarial.targets import repeat_seed
from mithridate.artefacts import write_csv
from mithridate.data.dataset import load_pixels
from mithridate.job import logged
from mithridate.options.dgn import EvaluationOptions
from mithridate.progress import Progress
from mithridate.repair.networks import read_network

with logged(snakemake.log[0]):
    params, given, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    device.prepare(params.device)
    network, kind = read_network(given.network, params.device, own=params.model)
    options, sets = (
        for_classes(EvaluationOptions(**params.evaluation), kind.num_classes),
        [load_examples(path) for path in given.examples],
    )
    count = 1 + len(sets) + len(white_box(options, params.epsilon))
    progress = Progress(f"attacks on the network {wildcards.defence}", count)
    how = {"epsilon": params.epsilon, "seed": repeat_seed(params.seed, int(wildcards.repeat)), "progress": progress}
    how["device"] = params.device
    table = evaluate(network, wildcards.defence, *load_pixels(given.data, "test"), sets, options, **how)
    progress.finish()
    write_csv(snakemake.output[0], table)
