"""An interrupted computation goes on from its snapshot to the same bits; any other begins."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from mithridate import device
from mithridate.adversarial.adversarial_training import train_robust
from mithridate.adversarial.generators import train_generators
from mithridate.artefacts import write_csv, write_hdf5
from mithridate.options.dgn import AdversarialTrainingOptions, GeneratorOptions
from mithridate.progress import Progress
from mithridate.streams import Stream
from mithridate.training import snapshot as timing
from mithridate.training.optimiser import FlatAdam
from mithridate.training.snapshot import Snapshot, name

CLASSES = 2
OPTIONS = GeneratorOptions(custom_loss="nce", num_epochs=2, batch_size=4, learning_rate=1e-3)


class Killed(Exception):
    pass


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    device.prepare()
    monkeypatch.setattr(timing, "EVERY", 0)


@contextmanager
def killed_at(count: int) -> Iterator[None]:
    """The optimiser's step number `count` is the last, and is not made."""
    made, step = [0], FlatAdam.step

    def dying(self, *how):
        made[0] += 1
        if made[0] == count:
            raise Killed
        step(self, *how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FlatAdam, "step", dying)
        with pytest.raises(Killed):
            yield


def quiet() -> Progress:
    return Progress("steps", 100, lambda line: None)


def generators(**how):
    images = Stream("snapshot images").uniform(20, 1, 28, 28).astype(np.float32)
    loss_of = lambda classes: lambda x, made: (0.5 * x - made).square().flatten(1).mean(1)  # noqa: E731
    given = {"name": "nce", "seed": 0, "num_classes": CLASSES, **how}
    return train_generators(images, np.arange(20) % CLASSES, loss_of, OPTIONS, **given)


@pytest.mark.parametrize(("together", "steps"), [(False, (1, 2, 4, 5, 6, 8, 10)), (True, (1, 3, 5))])
def test_generators_go_on_wherever_they_were_killed(together, steps, tmp_path, monkeypatch):
    whole = generators(together=together)
    for count in steps:
        folder, progress = tmp_path / str(count), quiet()
        with killed_at(count):
            generators(together=together, snapshot=Snapshot(folder, "one"))
        resumed = generators(together=together, snapshot=Snapshot(folder, "one"), progress=progress)
        assert progress._skipped == (count - 1) * (CLASSES if together else 1)
        assert progress.done == 5 * CLASSES
        assert all(np.array_equal(array, whole.tensors[key]) for key, array in resumed.tensors.items())
        assert resumed.history.equals(whole.history)
    monkeypatch.setattr(FlatAdam, "step", None)  # all is done: nothing is made again
    again = generators(together=together, snapshot=Snapshot(folder, "one"))
    assert all(np.array_equal(array, whole.tensors[key]) for key, array in again.tensors.items())
    assert again.history.equals(whole.history)


@pytest.mark.parametrize("count", [1, 3, 4, 8, 9])
def test_robust_networks_go_on_after_the_last_whole_epoch(count, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.random((20, 1, 4, 4), np.float32), rng.integers(0, 3, 20)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.3), nn.Linear(16, 3))
    options = AdversarialTrainingOptions(adv_num_epochs=3, adv_batch_size=8, adv_decay_step=2)

    def train(**how) -> dict[str, torch.Tensor]:
        given = {"epsilon": 0.1, "name": "nce", "seed": 0, **how}
        return train_robust(fresh, x, y, np.clip(x + 0.1, 0, 1), options, **given).state_dict()

    whole, progress = train(), quiet()
    with killed_at(count):
        train(snapshot=Snapshot(tmp_path, "one"))
    resumed = train(snapshot=Snapshot(tmp_path, "one"), progress=progress)
    assert (progress._skipped, progress.done) == ((count - 1) // 3, 3)
    assert all(torch.equal(tensor, whole[key]) for key, tensor in resumed.items())


def test_a_snapshot_is_loaded_whole_or_not_at_all(tmp_path):
    one = Snapshot(tmp_path, "one")
    here = {"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.int64)}
    assert one.load(here) is None
    one.save(here, epoch=3, noted=[[0, 0.1]])
    there = {"a": torch.zeros(1, 3), "b": torch.zeros(4, dtype=torch.int64)}
    assert Snapshot(tmp_path, "one").load(there) == {"epoch": 3, "noted": [[0, 0.1]], "provenance": {}}
    assert torch.equal(there["a"][0], here["a"])
    assert torch.equal(there["b"].view(2, 2), here["b"])
    a, b = torch.zeros(3), torch.zeros(4, dtype=torch.int64)
    for other in ({"a": a}, {"a": a, "b": torch.zeros(5)}, {"a": a, "b": b, "c": torch.zeros(1)}):
        assert one.load(other) is None
        assert not a.any()
        assert not b.any()
    one.path.write_bytes(one.path.read_bytes()[:-1])
    assert one.load(there) is None
    one.part(0).save(here)
    one.remove()
    assert not list(tmp_path.iterdir())
    assert not Snapshot().due()
    Snapshot().remove()
    Snapshot().save(here)
    assert Snapshot().part(1).path is None
    assert not list(tmp_path.iterdir())


def test_a_jobs_snapshot_is_named_by_all_that_the_job_is(tmp_path):
    data, masks = tmp_path / "data.h5", tmp_path / "masks.csv"
    write_csv(masks, pd.DataFrame({"unit": [1]}))
    write_hdf5(data, {"x": np.arange(3)}, {}, {"commit": "a"})

    def of(**changed) -> str:
        job = {"rule": "train", "wildcards": {"loss": "nce"}, "input": [str(data), str(masks)]}
        job |= {"params": {"code": "c", "device": "cpu", "options": {"k": 3}}}
        return Snapshot.of_job(SimpleNamespace(**{**job, **changed}), tmp_path).path.name

    first = of()
    write_hdf5(data, {"x": np.arange(3)}, {}, {"commit": "b"})
    assert of() == first  # the same data, made by another commit
    others = {
        of(rule="other"), of(wildcards={"loss": "lrp"}), of(input=[str(data)]),
        of(params={"code": "d", "device": "cpu", "options": {"k": 3}}),
        of(params={"code": "c", "device": "cpu", "options": {"k": 4}}),
    }  # fmt: skip
    write_hdf5(data, {"x": np.arange(1, 4)}, {}, {"commit": "b"})
    assert len(others | {first, of()}) == 7
    assert name([1], [np.zeros(2)]) != name([1], [np.zeros((1, 2))]) != name([1], [np.zeros((1, 2), np.float32)])
    assert Path(Snapshot(tmp_path, "one").part(2).path).name == "one-2.safetensors"
