"""The delivered network ("GoodNet"): a folder that answers for itself, without the workflow that made it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import numpy as np

from mithridate.atomic import write_bytes
from mithridate.digests import digest
from mithridate.errors import InputError
from mithridate.options.badnet import Rule
from mithridate.progress import Progress
from mithridate.repair.detector import load_detector
from mithridate.repair.goodnet import goodnet_output
from mithridate.repair.networks import read_network
from mithridate.repair.predict import predictions

SUSPICIOUS, REPAIRED, STRIP, LABEL = "suspicious.safetensors", "repaired.safetensors", "strip.h5", "goodnet.json"
PARTS = (SUSPICIOUS, REPAIRED, STRIP)
AGAIN = "copy the whole folder again, or let the workflow make it"


def write_label(path: str | Path, parts: Iterable[str | Path], rule: Rule) -> None:
    """goodnet.json: the output rule, and digests of the parts beside it, by which a mixed or damaged folder is
    noticed."""
    digests = {Path(part).name: digest(part) for part in parts}
    write_bytes(path, (json.dumps({"rule": rule, "sha256": digests}, indent=1) + "\n").encode())


class GoodNet:
    """The network of a folder. own: see `networks.read_networks`. Raises InputError where a file is missing, damaged or
    of another network."""

    def __init__(self, folder: str | Path, device: str = "cpu", *, own: str | None = None) -> None:
        folder = Path(folder)
        label = folder / LABEL
        try:
            known = json.loads(label.read_text())
            self.rule: Rule = known["rule"]
            if self.rule not in get_args(Rule):
                raise ValueError(f"no rule {self.rule}")
            digests = {name: known["sha256"][name] for name in PARTS}
        except FileNotFoundError:
            raise InputError(
                f"{folder} holds no {LABEL}: give the folder goodnet of a network in results/, as in"
                " results/digits28/badnet/square-t0-r0.2-n0/goodnet."
            ) from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{label} is damaged: {AGAIN}.") from error
        for name, expected in digests.items():
            if digest(folder / name) != expected:
                raise InputError(f"{folder / name} is not the file that belongs to {LABEL}: {AGAIN}.")
        self.device = device
        self.suspicious, kind = read_network(folder / SUSPICIOUS, device, own=own)
        self.repaired, _ = read_network(folder / REPAIRED, device, own=own)
        self.detector = load_detector(folder / STRIP, self.suspicious, device)
        self.shape, self.num_classes = kind.shape, kind.num_classes

    def outputs(self, images: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """A class, or num_classes for "backdoored", of images float32 [n,C,H,W] in [0, 1]: int64 [n]."""
        asked = self.rule in ("strip", "combination")
        flagged = self.detector.boundary.flags(self.detector.values(images, progress)) if asked else None
        badnet = predictions(self.suspicious, images, device=self.device)
        repaired = predictions(self.repaired, images, device=self.device)
        return goodnet_output(self.rule, self.num_classes, badnet=badnet, repaired=repaired, flagged=flagged)
