"""A few images of a file as PNG pictures."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mithridate.atomic import write_bytes
from mithridate.data.faces import Faces
from mithridate.errors import InputError
from mithridate.streams import Stream


def sample_rows(faces: Faces, count: int, seed: int) -> pd.DataFrame:
    """index, label and (where known) true_label of `count` images, drawn from the seed, in order of their index. Raises
    InputError where there are fewer images."""
    if len(faces) < count:
        raise InputError(f"{faces.path} holds {len(faces)} images, too few for {count} samples: give a larger file.")
    index = np.sort(Stream("badnet samples", seed).permutations(1, len(faces))[0, :count])
    table = pd.DataFrame({"index": index, "label": faces.labels[index]})
    return table if faces.true_labels is None else table.assign(true_label=faces.true_labels[index])


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write one image float32 [C,H,W] in [0, 1], of 1 or 3 channels. Raises InputError for other numbers."""
    if image.shape[0] not in (1, 3):
        raise InputError(f"{path}: an image of {image.shape[0]} channels is no picture: give 1 or 3 channels.")
    levels = np.rint(image * 255).astype(np.uint8).transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels).save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())
