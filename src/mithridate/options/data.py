"""Options of the data room."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidatorFunctionWrapHandler, field_validator, model_validator

from mithridate.options.base import Strict, distinct

BUILTIN = {"digits": 10, "digits28": 10, "mnist": 10, "fashion_mnist": 10, "cifar10": 10, "gtsrb": 43}
"""Built-in data sets and how many classes they have."""

Side = Annotated[int, Field(ge=1, le=10_000)]


class DataOptions(Strict):
    source: Literal["builtin", "npz", "images", "npy"] = "builtin"
    """builtin: the data set that `dataset` names; npz, images, npy: your own, at `data.path`"""
    root: str | None = None
    """folder that already holds a built-in data set, in torchvision's layout or as <dataset>.npz; nothing is downloaded then (null: torchvision downloads to downloads/)"""
    path: str | None = None
    """your own data: an .npz file with x_train, y_train, x_test, y_test; for images a folder with train/<class>/* and test/<class>/*; for npy a folder with X_train.npy, Y_train.npy, X_val.npy, Y_val.npy, X_test.npy, Y_test.npy, images [N,H,W,C] whose pixels are k/255, labels one-hot"""
    layout: Literal["nhwc", "nchw"] = "nhwc"
    """axis order of colour images in an .npz file: [N,H,W,C] or [N,C,H,W]"""
    image_size: tuple[Side, Side] | None = None
    """[height, width] to which image files (images, gtsrb) are resized (null: they must agree; gtsrb: 48 x 48)"""
    classes: Annotated[int, Field(ge=2, le=4096)] | Annotated[list[str], Field(min_length=2)] | None = None
    """classes of your own data, fixed: their number for npz and npy, their names in order for images (null: read from the data, in which one sample of a new class changes every base classifier; npy: the width of one-hot labels)"""
    channels: Annotated[int, Field(ge=1, le=3)] | None = None
    """1 (grey) or 3 (colour) for an image folder, fixed (null: 1 where all images are grey, so that one colour image changes every base classifier)"""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """share of the training set listed in val_index, for methods that need clean held-out data (npy: without effect, X_val.npy is what is held out)"""

    @field_validator("classes", mode="wrap")
    @classmethod
    def _either(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            classes = handler(value)
            return distinct(classes) if isinstance(classes, list) else classes
        except ValueError:
            raise ValueError(
                "give a number from 2 to 4096 (source: npz or npy), or a list of at least two different names"
                " (source: images)"
            ) from None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.classes, int) and self.source not in ("npz", "npy"):
            raise ValueError("classes as a number goes with source: npz or npy; name them for source: images")
        if isinstance(self.classes, list) and self.source != "images":
            raise ValueError(
                "classes as a list of names goes with source: images; give their number for source: npz or npy"
            )
        if self.channels is not None and (self.source != "images" or self.channels == 2):
            raise ValueError("channels is 1 or 3 and goes with source: images")
        return self
