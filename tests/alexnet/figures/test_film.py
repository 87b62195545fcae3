import io

import numpy as np
import pytest
from PIL import Image

from alexnet.figures.film import MOST_MOMENTS, draw_film, film_strip
from alexnet.figures.filters import BAND_PX, filters_picture
from alexnet.figures.thinning import evenly


def filters(maps: int, side: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(maps, 3, side, side)).astype(np.float32)


@pytest.mark.parametrize(
    ("maps", "towers", "width"),
    [
        (96, 2, 2 * (16 * 12 + 1) + BAND_PX),  # sixteen of each tower
        (64, 1, 16 * 12 + 1),
        (16, 2, 2 * (8 * 12 + 1) + BAND_PX),
        (8, 1, 8 * 12 + 1),
    ],
)
def test_a_row_is_a_moment_and_a_column_a_filter(maps: int, towers: int, width: int) -> None:
    moments = [filters(maps, 11, seed) for seed in range(3)]
    strip = film_strip(moments, towers=towers)
    assert strip.shape == (3 * 13 + 2 * BAND_PX, width, 3)
    assert strip.dtype == np.uint8


def test_each_row_shows_the_same_filters_as_they_stand_in_figure_3() -> None:
    first, second = filters(40, seed=1), filters(40, seed=2)
    strip = film_strip([first, second], towers=2)
    height = 3 + 2
    assert (strip[height : height + BAND_PX] == 255).all()
    for row, moment in ((0, first), (height + BAND_PX, second)):
        for tower, left in ((moment[:20], 0), (moment[20:], 16 * 4 + 1 + BAND_PX)):
            chosen = tower[evenly(range(20), 16)]
            assert chosen[0] is not tower[0]
            expected = filters_picture(chosen)
            found = strip[row : row + height, left : left + 16 * 4 + 1]
            np.testing.assert_array_equal(found, expected)


def test_a_moment_has_a_scale_of_its_own() -> None:
    weights = filters(4)
    strip = film_strip([weights, weights * 50])
    height = 3 + 2
    np.testing.assert_array_equal(strip[:height], strip[height + BAND_PX :])


@pytest.mark.parametrize("maps", [8, 96])
@pytest.mark.parametrize("num_moments", [1, 450])
def test_a_film_of_any_size_fits_onto_a_page(num_moments: int, maps: int) -> None:
    frames = {500 * n: filters(maps, 11, seed=n) for n in range(num_moments)}
    drawn = draw_film(frames, towers=2)
    assert draw_film(dict(reversed(frames.items())), towers=2) == drawn
    with Image.open(io.BytesIO(drawn)) as image:
        assert image.width <= 2400
        assert image.height <= 250 * (0.4 * MOST_MOMENTS + 0.4)


def test_of_many_moments_the_first_and_the_last_are_shown() -> None:
    frames = {step: filters(8, seed=step) for step in range(100)}
    chosen = evenly(range(100), MOST_MOMENTS)
    assert {chosen[0], chosen[-1]} == {0, 99}
    assert draw_film(frames) == draw_film({step: frames[step] for step in chosen})
