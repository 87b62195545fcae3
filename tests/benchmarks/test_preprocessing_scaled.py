"""Scaled decoding cuts the same square, to within what a filter changes."""

import numpy as np
import pytest
from jpeg_archives import make_jpeg

from benchmarks.preprocessing.scaled_decoding import FACTORS, decode_scaled, look_at
from preprocessing.dataset.pixels import decode_image, to_square


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("size", [(801, 612), (600, 811)])
def test_the_square_of_a_scaled_image_is_that_of_the_whole_one(
    factor: int, size: tuple[int, int]
) -> None:
    height, width = size
    body = make_jpeg(4, width=width, height=height)
    square = to_square(decode_image(body), 32).astype(int)
    scaled = decode_scaled(body, factor)
    assert scaled.shape[:2] == (-(-height // factor), -(-width // factor))
    found = to_square(scaled, 32, (0, 0, height / factor, width / factor)).astype(int)
    shifted = np.abs(np.roll(square, 1, axis=1) - square)[:, 1:].mean()
    assert np.abs(found - square).mean() < min(1.0, shifted / 4)


def test_only_what_leaves_something_to_scale_down_is_looked_at() -> None:
    cases = [case for case, _ in look_at(make_jpeg(1, width=400, height=300))]
    assert {factor for factor, _ in cases} == {2, 4}
    assert all(left >= 1 for _, left in cases)
