"""`mithridate badnet classify`: what a delivered network says of a file of images, or of one picture."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from mithridate import device
from mithridate.artefacts import write_csv
from mithridate.certify.intervals import clopper_pearson
from mithridate.data.faces import Faces, load_image, open_faces
from mithridate.errors import InputError
from mithridate.progress import Progress
from mithridate.repair.delivered import GoodNet
from mithridate.repair.judging import PIECE

PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # what a PNG and a JPEG begin with


def classify(
    path: Path,
    folder: Path,
    choice: str = "auto",
    confidence: float = 0.95,
    out: Path | None = None,
    model: str | None = None,
) -> None:
    """Print the answer of the GoodNet in `folder`: of an HDF5 file the shares that are flagged and that get the file's
    labels, with intervals; of a PNG or JPEG one line with the class number, or the number of classes for "backdoored".

    choice: auto, cpu or cuda. model: an architecture package.module:function that may be imported. out: a CSV file for
    every image's index, label and output. Raises InputError for whatever the user can mend.
    """
    clopper_pearson(0, 1, confidence)  # a level that is none is refused before work
    many = _is_hdf5(path)
    if out is not None and out.is_dir():
        raise InputError(f"--out: {out} is a folder: give the path of a CSV file.")
    if out is not None and not many:
        raise InputError(f"{path} is a single picture, whose answer is printed: leave --out away.")
    processor = device.kind(choice)
    device.prepare(processor)
    goodnet = GoodNet(folder, processor, own=model)
    if not many:
        _print_answer(goodnet, load_image(path, goodnet.shape))
        return
    with open_faces(path, goodnet.shape, goodnet.num_classes) as faces:
        output = outputs(goodnet, faces)
    print(report(output, faces, goodnet.num_classes, confidence))
    if out is not None:
        index = np.arange(len(output))
        write_csv(out, pd.DataFrame({"index": index, "label": faces.labels, "output": output}), checksum=False)
        print(f"written: {out}")


def outputs(goodnet: GoodNet, faces: Faces) -> np.ndarray:
    """The answers int64 [n] for all images, which are read in pieces."""
    progress, found = Progress(f"images of {faces.path.name}", len(faces)), []
    for start in range(0, len(faces), PIECE):
        images = faces.images(slice(start, start + PIECE))
        found.append(goodnet.outputs(images, progress))
        progress.add(start + len(images) - progress.done)  # where the rule does without STRIP, which counts them
    progress.finish()
    return np.concatenate(found)


def report(output: np.ndarray, faces: Faces, num_classes: int, confidence: float) -> str:
    """The shares of the answers [n] as text.

    Where true labels differ from the labels, the images are triggered and labels are the attack's targets: then images
    whose true class is the target are left out, and those that get their true class are counted too.
    """
    labels, true, name = faces.labels, faces.true_labels, faces.path.name
    flagged, right = output == num_classes, output == labels
    if true is None or np.array_equal(true, labels):
        lines = [
            f"{name}: {len(output):,} images",
            _share(f"flagged as backdoored (output {num_classes})", flagged, confidence),
            _share("agree with the file's labels, if unflagged", right[~flagged], confidence),
            _share("agree with the file's labels, overall", right, confidence),
            "Labels are taken as they stand; in a file of triggered images they are the attack's targets.",
        ]
    else:
        kept = labels != true
        flagged, right, recovered = flagged[kept], right[kept], (output == true)[kept]
        lines = [
            f"{name}: {len(flagged):,} triggered images; left out: {len(output) - len(flagged):,} whose true_label is"
            " their label, the target",
            _share(f"flagged as backdoored (output {num_classes})", flagged, confidence),
            _share("accuracy on label, if unflagged", right[~flagged], confidence),
            _share("accuracy on label, overall", right, confidence),
            _share("recovered (output is true_label)", recovered, confidence),
            "Label is the attack's target: accuracy on it is the attack's success.",
        ]
    return "\n".join([*lines, f"Intervals: Clopper–Pearson, level {confidence:g}."])


def _is_hdf5(path: Path) -> bool:
    """By the content; else it is a PNG or JPEG. Raises InputError where it is none of them."""
    if not path.is_file():
        raise InputError(f"{path} does not exist or is no file: give the path of an HDF5 file, PNG or JPEG.")
    if h5py.is_hdf5(path):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): mend its permissions or copy it again.") from error
    if not start.startswith(PICTURES):
        raise InputError(f"{path} is neither HDF5 nor PNG nor JPEG, or damaged: give another file, or copy it again.")
    return False


def _print_answer(goodnet: GoodNet, image: np.ndarray) -> None:
    answer = int(goodnet.outputs(image[None])[0])
    print(f"{answer} = backdoored input" if answer == goodnet.num_classes else f"class {answer}", file=sys.stderr)
    print(answer)


def _share(what: str, hits: np.ndarray, confidence: float) -> str:
    """hits: bool [n]."""
    if not len(hits):
        return f"  {what:44s}no image"
    low, high = clopper_pearson(int(hits.sum()), len(hits), confidence)
    interval = f"[{low:.2%}, {high:.2%}]"
    return f"  {what:44s}{hits.mean():8.2%}  {interval:20s}{hits.sum():,} of {len(hits):,}"
