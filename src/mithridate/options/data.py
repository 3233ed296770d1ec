"""Options of the data room."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from mithridate.options.base import Strict

BUILTIN = ("digits", "digits28", "mnist", "fashion_mnist", "cifar10", "gtsrb")


class DataOptions(Strict):
    source: Literal["builtin", "npz", "images"] = "builtin"
    """builtin: the data set that `dataset` names; npz, images: your own, at `data.path`"""
    root: str | None = None
    """folder that already holds a built-in data set, in torchvision's layout or as <dataset>.npz; nothing is downloaded then (null: torchvision downloads to downloads/)"""
    path: str | None = None
    """your own data: an .npz file with x_train, y_train, x_test, y_test, or a folder with train/<class>/* and test/<class>/*"""
    layout: Literal["nhwc", "nchw"] = "nhwc"
    """axis order of colour images in an .npz file: [N,H,W,C] or [N,C,H,W]"""
    image_size: tuple[PositiveInt, PositiveInt] | None = None
    """[height, width] to which image files (images, gtsrb) are resized (null: they must agree; gtsrb: 48 x 48)"""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """share of the training set listed in val_index, for methods that need clean held-out data"""
