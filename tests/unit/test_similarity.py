"""Similarity of images: SSIM against scikit-image's numbers and the formula place by place, norms by hand."""

import numpy as np
import pytest

from mithridate.adversarial import similarity as module
from mithridate.adversarial.similarity import similarity, ssim
from mithridate.errors import InputError


def pair(c: int, h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """An image [1,c,h,w] of waves, and the same with a ripple of 0.1."""
    i = np.arange(c * h * w, dtype=np.float64).reshape(1, c, h, w)
    x = (0.5 + 0.5 * np.sin(0.37 * i)).astype(np.float32)
    return x, np.clip(x + 0.1 * np.cos(1.7 * i), 0, 1).astype(np.float32)


# structural_similarity(x, y, channel_axis=0, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
# of scikit-image 0.26.0, in float64
@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1, 28, 28), 0.9828006947497202), ((3, 32, 32), 0.9775286831748254), ((2, 13, 20), 0.9819302800237084)],
)
def test_ssim_is_scikit_images(shape, expected):
    x, y = pair(*shape)
    assert similarity(x, y)["ssim"][0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("shape", "size"), [((1, 8, 8), 7), ((2, 10, 12), 9), ((1, 5, 30), 5), ((1, 1, 3), 1)])
def test_smaller_images_have_the_largest_odd_window(shape, size):
    x, y = (image.astype(np.float64) for image in pair(*shape))
    line = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * 1.5**2))
    weights, found = np.outer(line, line) / line.sum() ** 2, []
    for channel in range(shape[0]):
        for top in range(shape[1] - size + 1):
            for left in range(shape[2] - size + 1):
                a, b = (image[0, channel, top : top + size, left : left + size] for image in (x, y))
                m, n = (weights * a).sum(), (weights * b).sum()
                v, u, c = ((weights * s * t).sum() for s, t in ((a - m, a - m), (b - n, b - n), (a - m, b - n)))
                found.append((2 * m * n + 1e-4) * (2 * c + 9e-4) / ((m * m + n * n + 1e-4) * (v + u + 9e-4)))
    assert ssim(x, y)[0] == pytest.approx(np.mean(found), abs=1e-9)


def test_norms_are_per_image_over_all_channels(monkeypatch):
    x = np.full((5, 2, 3, 3), 0.5, np.float32)
    y = x.copy()
    y[1, 0, 0, 0], y[1, 1, 2, 2], y[2] = 0.75, 0.0, 0.625
    rows = similarity(x, y)
    assert rows["linf"].tolist() == [0, 0.5, 0.125, 0, 0]
    np.testing.assert_allclose(rows["l2"], [0, np.sqrt(0.25**2 + 0.5**2), 0.125 * np.sqrt(18), 0, 0])
    assert rows["ssim"][[0, 3, 4]].tolist() == [1, 1, 1]
    assert (rows["ssim"][1:3] < 1).all()
    monkeypatch.setattr(module, "pieces", lambda *_: (slice(i, i + 2) for i in range(0, 5, 2)))
    assert similarity(x, y).equals(rows)
    np.testing.assert_allclose(similarity(y, x), rows)


def test_sets_that_do_not_fit_are_refused():
    x = np.zeros((2, 1, 4, 4), np.float32)
    for other in (x[:1], x[:, :, :3], x[0]):
        with pytest.raises(InputError, match="one of each"):
            similarity(x, other)
    with pytest.raises(InputError, match="one of each"):
        similarity(x[:0], x[:0])
