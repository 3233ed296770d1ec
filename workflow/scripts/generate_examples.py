"""Generate adversarial images of the training or test images, or of test images by the generator of another class."""

import time

from mithridate import device
from mithridate.adversarial.examples import make_examples, save_examples
from mithridate.adversarial.generators import generate, load_generators
from mithridate.adversarial.gradient_attacks import into_ball
from mithridate.data.dataset import load_pixels
from mithridate.job import logged
from mithridate.progress import Progress
from mithridate.provenance import gather
from mithridate.repair.networks import read_network
from mithridate.repair.predict import predictions

with logged(snakemake.log[0]):
    params, given, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    device.prepare(params.device)
    images, labels = load_pixels(given.data, "train" if wildcards.part == "train" else "test")
    network, kind = read_network(given.target, params.device, own=params.model)
    generators, wrong = load_generators(given.generators), wildcards.part == "wrong"
    classes = (labels + 1) % kind.num_classes if wrong else labels
    progress, start = Progress(f"images generated ({wildcards.loss})", len(images)), time.perf_counter()
    made = generate(generators, images, classes, device=params.device, progress=progress)
    made = into_ball(images, made, params.epsilon) if params.how["clipping"] else made
    seconds = time.perf_counter() - start
    progress.finish()
    keep = None
    if params.how["mis_classification_check"] and wildcards.part == "train":
        keep = predictions(network, made, scale=1.0, device=params.device) != labels
    how = {"mode": "wrong-class" if wrong else "transfer", "true_label": True, "seconds": seconds, "keep": keep}
    how |= {"classes": classes, "attack": wildcards.loss, "epsilon": params.epsilon, "bounded": params.how["clipping"]}
    provenance = gather(snakemake.config, **device.describe(params.device))
    save_examples(snakemake.output[0], make_examples(images, labels, made, **how), images, provenance)
