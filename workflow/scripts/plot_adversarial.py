"""Draw some adversarial images beside their originals, with what the target says of them."""

from mithridate import device
from mithridate.adversarial.examples import load_examples
from mithridate.data.dataset import load_header, load_pixels
from mithridate.job import logged
from mithridate.pictures.dgn import examples
from mithridate.pictures.style import save
from mithridate.repair.networks import read_network
from mithridate.repair.predict import predictions

with logged(snakemake.log[0]):
    params, given, out = snakemake.params, snakemake.input, snakemake.output
    device.prepare()
    target, _ = read_network(given.target, own=params.model)
    originals, made = load_pixels(given.data, "test")[0], load_examples(given.examples)
    said, answers = (predictions(target, images, scale=1.0) for images in (originals, made.images))
    names = load_header(given.data).class_names
    save(examples(originals, said, made, answers, names, params.confidence), out.picture, out.caption)
