"""The one entry point: from the name and options of a data set to its arrays."""

from mithridate.data import digits, files, splits
from mithridate.data.dataset import Dataset, validate
from mithridate.errors import InputError
from mithridate.options.data import BUILTIN, DataOptions


def load_source(dataset_name: str, options: DataOptions) -> Dataset:
    """The checked data set. Raises InputError for an unknown name and for whatever is wrong with the data."""
    if options.source != "builtin":
        if options.path is None:
            raise InputError(f"data.source is {options.source} but data.path is not set: give the path of your data.")
        classes = options.classes if isinstance(options.classes, int) else None
        if options.source == "npy":
            return splits.load_npy(dataset_name, options.path, classes)
        if options.source == "npz":
            return files.load_npz(dataset_name, options.path, options.layout, classes)
        names = options.classes if isinstance(options.classes, list) else None
        return files.load_images(dataset_name, options.path, options.image_size, names, options.channels)
    if dataset_name == "digits":
        return validate(digits.digits())
    if dataset_name == "digits28":
        return validate(digits.digits28())
    if dataset_name in BUILTIN:
        from mithridate.data import vision  # imports PyTorch, which the others do without

        return vision.load_vision(dataset_name, options.root, options.image_size)
    raise InputError(
        f"dataset: {dataset_name!r} is not one of {', '.join(BUILTIN)}: for your own data set data.source."
    )
