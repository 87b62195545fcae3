import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.building.summing import PixelAdder
from preprocessing.dataset.statistics import (
    PixelSums,
    finish,
    parse_statistics,
    symmetric_eigen,
)
from preprocessing.errors import ManifestError

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
IMAGES[..., 1] = IMAGES[..., 0] // 2 + IMAGES[..., 1] // 3


def sums_of(images: np.ndarray) -> PixelSums:
    adder = PixelAdder(8, 8, 4)
    for number, image in enumerate(images):
        adder.add(image, number % 3)
    return adder.result()


def test_they_equal_a_float64_reference() -> None:
    statistics = finish(sums_of(IMAGES))
    flat = IMAGES.astype(np.float64).reshape(-1, 3)
    variances, vectors = np.linalg.eigh(np.cov(flat.T, bias=True))
    np.testing.assert_allclose(statistics.mean_image, IMAGES.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics.channel_mean, flat.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics.channel_std, flat.std(axis=0), rtol=1e-9)
    np.testing.assert_allclose(statistics.color_stds, np.sqrt(variances), rtol=1e-9)
    overlap = np.abs((vectors * statistics.color_eigenvectors).sum(axis=0))
    np.testing.assert_allclose(overlap, 1, rtol=1e-9)
    assert statistics.class_counts.tolist() == [17, 17, 16, 0]


def test_merging_in_any_order_gives_the_same_bytes() -> None:
    whole = finish(sums_of(IMAGES)).to_bytes()
    adders = [PixelAdder(8, 8, 4) for _ in range(4)]
    for number, image in enumerate(IMAGES):
        adders[number % 4].add(image, number % 3)
    parts = [adder.result() for adder in adders]
    for order in (parts, parts[::-1]):
        total = PixelSums.zero(8, 8, 4)
        for part in order:
            total.merge(part)
        assert finish(total).to_bytes() == whole


def test_grey_images_have_one_colour() -> None:
    grey = np.repeat(IMAGES[..., :1], 3, axis=3)
    statistics = finish(sums_of(grey))
    np.testing.assert_allclose(statistics.color_stds[:2], 0, atol=1e-4)
    np.testing.assert_allclose(statistics.color_eigenvectors[:, 2], 3**-0.5)


@given(st.lists(st.floats(-1e4, 1e4), min_size=6, max_size=6))
def test_eigenvectors_are_orthonormal_and_rebuild_the_matrix(entries: list[float]) -> None:
    a, b, c, d, e, f = entries
    matrix = [[a, b, c], [b, d, e], [c, e, f]]
    values, vectors = symmetric_eigen(matrix)
    assert values == sorted(values)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(vectors @ np.diag(values) @ vectors.T, matrix, atol=1e-7)
    assert all(column[np.abs(column).argmax()] > 0 for column in vectors.T)


def test_what_is_written_is_read_back() -> None:
    statistics = finish(sums_of(IMAGES))
    again = parse_statistics(statistics.to_bytes())
    assert again.to_bytes() == statistics.to_bytes()
    assert again.mean_image.dtype == np.float64


def test_other_bytes_are_refused() -> None:
    with pytest.raises(ManifestError) as caught:
        parse_statistics(b"no safetensors")
    assert "delete the dataset's folder" in caught.value.remedy
