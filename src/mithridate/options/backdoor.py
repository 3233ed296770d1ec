"""Options of what a backdoored ensemble is compared with: one classifier on all data, and real attacks on votes."""

from typing import Annotated

from pydantic import Field

from mithridate.options.base import Strict, Whole
from mithridate.options.models import Model
from mithridate.options.training import NO_AUGMENTATION, TrainingOptions


class SingleOptions(Strict):
    model: Model = "late_pool_cnn"
    """architecture of the one classifier that is trained on the whole training set, without a defence"""
    training: TrainingOptions = TrainingOptions(
        steps=1000,
        batch_size=16,
        learning_rate=0.1,
        weight_decay=0,
        label_smoothing=0,
        strategy="loop",
        augmentation=NO_AUGMENTATION,
    )
    """how it is trained; without augmentation and weight decay by default, which would weaken the attack"""


class GreedyOptions(Strict):
    k: Annotated[int, Field(ge=2, le=1000)] = 10
    """partitions of the small ensemble that is attacked"""
    points: Whole = 6
    """test images that are attacked, each by an attacker of its own who retrains base classifiers (0: no attack)"""
