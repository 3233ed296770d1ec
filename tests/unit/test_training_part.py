"""What attackers and victims of randomized smoothing see of a data set on disk."""

from dataclasses import replace

import numpy as np
import pytest

from mithridate.attacks.exchange import splits_of
from mithridate.attacks.poisons import Poison, attack_data, random_poison
from mithridate.attacks.training_part import attack_data_of, training_part
from mithridate.data.dataset import Dataset, load_header, load_images, load_labels, load_val_index, save
from mithridate.errors import InputError
from mithridate.streams import Stream

N, SCALE, EPSILON = 60, 1 / 255, 0.03  # 7.65 grey levels
GREY = (Stream("training part").uniform(N, 1, 4, 4) * 256).astype(np.uint8)
LABELS = (Stream("training part's labels").uniform(N) * 3).astype(np.int64)
PIXELS = GREY * np.float32(SCALE)


@pytest.fixture
def path(tmp_path):
    """A data set that holds out every fifth row, more or less."""
    data = Dataset(GREY, LABELS, GREY[:9], LABELS[:9], None, SCALE, "mine", "a test", list("abc"))
    save(tmp_path / "clean.h5", data, 0.2, 1, {})
    return tmp_path / "clean.h5"


@pytest.fixture
def poison(path) -> Poison:
    return random_poison(attack_data_of(path, 2), epsilon=EPSILON, seed=0)


def part(path, poison, quantise=False):
    known = load_images(path, "train"), load_labels(path, "train"), load_val_index(path)
    return training_part(*known, poison, scale=SCALE, quantise=quantise)


def test_the_attacker_is_shown_the_data_set_of_the_file(path):
    known = attack_data_of(path, 2)
    held_out, sha256 = load_val_index(path), load_header(path).sha256
    expected = attack_data(PIXELS, LABELS, held_out, target=2, num_classes=3, sha256=sha256)
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(known, name), value, err_msg=name)
    with pytest.raises(InputError, match="no images of class 3"):
        attack_data_of(path, 3)


def test_the_clean_part_is_all_rows_but_the_held_out_ones_in_stored_order(path):
    rows = np.setdiff1d(np.arange(N), load_val_index(path))
    assert len(rows) == N - 12
    for quantise in (False, True):
        images, labels = part(path, None, quantise)
        assert (images.dtype, labels.dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(images, PIXELS[rows])
        np.testing.assert_array_equal(labels, LABELS[rows])


def test_the_poison_stands_in_its_rows_and_changes_nothing_else(path, poison):
    rows = np.setdiff1d(np.arange(N), load_val_index(path))
    clean, images = PIXELS[rows], part(path, poison)[0]
    ours = LABELS[rows] == 2
    np.testing.assert_array_equal(images[ours], poison.images)
    np.testing.assert_array_equal(images[~ours], clean[~ours])
    assert (images[ours] != clean[ours]).any((1, 2, 3)).all()
    np.testing.assert_array_equal(part(path, poison)[1], LABELS[rows])
    known = GREY, LABELS, load_val_index(path), GREY[:9], LABELS[:9]
    exported = splits_of(*known, scale=SCALE, num_classes=3, poison=poison)
    np.testing.assert_array_equal(images, exported.images["train"])


def test_a_quantised_poison_is_whole_grey_levels_towards_the_originals(path, poison):
    rows = np.setdiff1d(np.arange(N), load_val_index(path))
    images, labels = part(path, poison, True)
    np.testing.assert_array_equal(labels, LABELS[rows])
    up = poison.images > PIXELS[poison.index]
    levels = np.clip(GREY[poison.index].astype(int) + np.where(up, 7, -7), 0, 255)
    np.testing.assert_array_equal(images[labels == 2], levels.astype(np.uint8) * np.float32(SCALE))
    np.testing.assert_array_equal(images[labels != 2], PIXELS[rows][labels != 2])
    assert images.dtype == np.float32


def test_the_poison_of_other_images_is_refused(path, poison):
    with pytest.raises(InputError, match="leaves the ball"):
        part(path, replace(poison, index=np.roll(poison.index, 1)))
    with pytest.raises(InputError, match="does not replace all"):
        part(path, replace(poison, index=poison.index + N))


def test_a_poison_of_another_split_is_refused(tmp_path, path, poison):
    data = Dataset(GREY, LABELS, GREY[:9], LABELS[:9], None, SCALE, "mine", "a test", list("abc"))
    save(tmp_path / "other.h5", data, 0.2, 2, {})
    with pytest.raises(InputError, match="does not replace all"):
        part(tmp_path / "other.h5", poison)


def test_a_poison_of_another_class_is_refused(path, poison):
    other = random_poison(attack_data_of(path, 1), epsilon=EPSILON, seed=0)
    with pytest.raises(InputError, match="does not replace all training images of class 2"):
        part(path, replace(other, target=2, labels=np.full(len(other.labels), 2)))
