import numpy as np
import pytest

from alexnet.figures.filters import BAND_PX, filters_picture
from alexnet.figures.pixels import enlarged, picture_png


def filters(maps: int, side: int = 3) -> np.ndarray:
    return np.random.default_rng(maps).normal(size=(maps, 3, side, side)).astype(np.float32)


@pytest.mark.parametrize(
    ("maps", "towers", "size"),
    [
        (96, 2, (2 * (3 * 12 + 1) + BAND_PX, 16 * 12 + 1)),  # as in the paper: 3 rows each
        (64, 1, (4 * 12 + 1, 16 * 12 + 1)),
        (32, 2, (2 * (12 + 1) + BAND_PX, 16 * 12 + 1)),
        (16, 2, (2 * (12 + 1) + BAND_PX, 8 * 12 + 1)),
        (20, 1, (2 * 12 + 1, 16 * 12 + 1)),
    ],
)
def test_filters_stand_sixteen_in_a_row(maps: int, towers: int, size: tuple[int, int]) -> None:
    picture = filters_picture(filters(maps, side=11), towers=towers)
    assert picture.shape == (*size, 3)
    assert picture.dtype == np.uint8


def test_a_weight_is_a_pixel_in_its_place_with_black_lines_between() -> None:
    weights = np.zeros((17, 3, 2, 2), np.float32)
    weights[1, 0, 0, 1] = 1.0  # red, upper right, of the second filter
    weights[16, 2, 1, 0] = 1.0  # blue, lower left, of the first one in the second row
    picture = filters_picture(weights)
    assert picture.shape == (7, 49, 3)
    assert np.argwhere(picture).tolist() == [[1, 5, 0], [5, 1, 2]]
    assert picture[1, 5, 0] == picture[5, 1, 2] == 255


def test_all_filters_of_a_tower_share_one_scale_and_towers_do_not() -> None:
    weights = np.zeros((4, 3, 1, 1), np.float32)
    weights[:, 0, 0, 0] = [-1.0, 1.0, -10.0, 30.0]
    weights[:, 1:, 0, 0] = weights[:, :1, 0, 0]
    upper, lower = np.split(filters_picture(weights, towers=2), [3], axis=0)
    assert upper[1, [1, 3]].tolist() == [[0, 0, 0], [255, 255, 255]]
    assert (lower[:BAND_PX] == 255).all()
    assert lower[BAND_PX + 1, [1, 3]].tolist() == [[0, 0, 0], [255, 255, 255]]
    one = filters_picture(weights, towers=1)
    assert one[1, [1, 3, 5, 7], 0].tolist() == [57, 70, 0, 255]


def test_filters_without_any_difference_are_drawn() -> None:
    assert not filters_picture(np.ones((2, 3, 1, 1), np.float32)).any()


def test_a_picture_is_enlarged_without_smoothing() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = enlarged(picture, 3)
    assert large.shape == (6, 6, 3)
    assert (large[::3, ::3] == picture).all()
    assert (large[2::3, 2::3] == picture).all()
    assert picture_png(large).startswith(b"\x89PNG")
