"""Recognises the training of the papers, so that published numbers stand only beside what they belong to."""

from mithridate.options.training import AugmentationOptions, TrainingOptions

NIN_200 = TrainingOptions(
    epochs=200,
    steps=None,
    batch_size=128,
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=5e-4,
    decay="step",
    decay_epochs=[60, 120, 160],
    decay_factor=0.2,
    warmup=0,
    label_smoothing=0,
    augmentation=AugmentationOptions(crop_padding=4, flip=False, rotation=0, scaling=0),
)
"""Levine & Feizi (ICLR 2021), section 4 and public code; CIFAR-10 is mirrored too."""
MEANS = {"strategy", "width", "precision", "channels_last", "cuda_graphs"}  # how, not what


def recipe_name(dataset: str, model: str, hash: str, training: TrainingOptions) -> str:
    """The name of the published recipe ("nin-200") that these options are, or "" where they are another."""
    flip = NIN_200.augmentation.model_copy(update={"flip": dataset == "cifar10"})
    published = NIN_200.model_copy(update={"augmentation": flip})
    same = published.model_dump(exclude=MEANS) == training.model_dump(exclude=MEANS)
    return "nin-200" if same and model == "nin" and hash == "pixel_sum" else ""
