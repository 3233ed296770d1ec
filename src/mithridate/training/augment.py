"""Augmentation on tensors: one call changes a whole batch, from numbers that were drawn beforehand."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mithridate.options.training import AugmentationOptions


def count_numbers(options: AugmentationOptions) -> int:
    """How many uniform numbers one image needs."""
    crop = 2 if options.crop_padding else 0
    affine = 2 if options.rotation or options.scaling else 0
    return crop + affine + (1 if options.flip else 0)


def augment(images: Tensor, uniform: Tensor, options: AugmentationOptions) -> Tensor:
    """Randomly cropped, mirrored, rotated and scaled images.

    images float [N,C,H,W] in [0,1]; uniform float [N, count_numbers(options)] in [0,1). What comes in at the
    edges is black, as in the pixels themselves, so this goes before normalisation.
    """
    column = iter(uniform.unbind(1))
    if options.rotation or options.scaling:
        images = _turn(images, next(column), next(column), options)
    if options.crop_padding or options.flip:
        images = _crop(images, column, options)
    return images


def _turn(images: Tensor, angle: Tensor, size: Tensor, options: AugmentationOptions) -> Tensor:
    """Rotate by ±rotation degrees and zoom by 1 ± scaling, bilinearly."""
    angle = (2 * angle - 1) * math.radians(options.rotation)
    zoom = 1 + (2 * size - 1) * options.scaling
    cos, sin, zero = angle.cos() / zoom, angle.sin() / zoom, torch.zeros_like(angle)
    ratio = images.shape[2] / images.shape[3]
    matrix = torch.stack([cos, -sin * ratio, zero, sin / ratio, cos, zero], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def _crop(images: Tensor, column: object, options: AugmentationOptions) -> Tensor:
    """Shift by whole pixels and mirror, as one gather."""
    n, _, height, width = images.shape
    pad, device = options.crop_padding, images.device
    row, col = torch.arange(height, device=device), torch.arange(width, device=device)
    rows, cols = row.expand(n, -1), col.expand(n, -1)
    if pad:
        images = F.pad(images, (pad, pad, pad, pad))
        rows = rows + (next(column) * (2 * pad + 1)).long()[:, None]  # type: ignore[call-overload]
        cols = cols + (next(column) * (2 * pad + 1)).long()[:, None]  # type: ignore[call-overload]
    if options.flip:
        mirrored = next(column)[:, None] < 0.5  # type: ignore[call-overload]
        cols = torch.where(mirrored, cols.flip(1), cols)
    sample = torch.arange(n, device=device)[:, None, None]
    return images[sample, :, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)
