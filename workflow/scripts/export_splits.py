"""Write a clean or poisoned training set, with the held-out and test images, as .npy files."""

from pathlib import Path

from mithridate.attacks.exchange import splits_of
from mithridate.attacks.poisons import load_poison
from mithridate.data.dataset import load_header, load_images, load_labels, load_test, load_val_index
from mithridate.data.splits import export_splits
from mithridate.job import logged

with logged(snakemake.log[0]):
    data = snakemake.input.data
    header = load_header(data)
    poison = load_poison(snakemake.input.poison[0], header.sha256) if snakemake.input.poison else None
    known = load_images(data, "train"), load_labels(data, "train"), load_val_index(data), *load_test(data)
    how = {"scale": header.scale, "num_classes": header.num_classes, "quantise": snakemake.params.quantised}
    splits = splits_of(*known, **how, poison=poison)
    export_splits(Path(snakemake.output[0]).parent, splits)
