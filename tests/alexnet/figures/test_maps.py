import io

import numpy as np
import pytest
from PIL import Image

from alexnet.figures.maps import GAP_PX, draw_layers, draw_maps, layers_picture, maps_picture


def images(count: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_a_row_is_an_image_with_its_maps_beside_it() -> None:
    maps = np.random.default_rng(2).normal(size=(3, 5, 4, 4)).astype(np.float32)
    picture = maps_picture(images(3, side=64), maps)
    cell = 4 * 32
    assert picture.shape == (3 * cell + 2 * GAP_PX, 6 * cell + 5 * GAP_PX, 3)
    assert (picture[cell : cell + GAP_PX] == 255).all()
    assert (picture[:, cell : cell + GAP_PX] == 255).all()
    # Written out in float64: what stands in row 2, column 3, is image 2's map 3, enlarged.
    scale = 255 / maps.astype(np.float64).max()
    for image in range(3):
        for one in range(5):
            top, left = image * (cell + GAP_PX), (one + 1) * (cell + GAP_PX)
            expected = np.rint(np.maximum(maps[image, one].astype(np.float64), 0) * scale)
            found = picture[top : top + cell, left : left + cell]
            np.testing.assert_array_equal(found[16::32, 16::32, 1], expected)
            np.testing.assert_array_equal(found, found[:, :, :1].repeat(3, axis=2))


def test_all_maps_of_all_images_share_one_scale() -> None:
    maps = np.zeros((2, 2, 1, 1), np.float32)
    maps[:, :, 0, 0] = [[-8.0, 1.0], [2.0, 4.0]]
    picture = maps_picture(images(2), maps)
    cell = (picture.shape[0] - GAP_PX) // 2
    upper, lower = cell // 2, cell + GAP_PX + cell // 2
    columns = [(1 + one) * (cell + GAP_PX) + cell // 2 for one in range(2)]
    assert picture[upper, columns, 0].tolist() == [0, 64]
    assert picture[lower, columns, 0].tolist() == [128, 255]


def test_an_image_stands_first_in_its_row() -> None:
    flat = np.zeros((2, 8, 8, 3), np.uint8)
    flat[0], flat[1] = (200, 10, 30), (0, 90, 0)
    picture = maps_picture(flat, np.ones((2, 1, 2, 2), np.float32))
    cell = (picture.shape[0] - GAP_PX) // 2
    assert (picture[:cell, :cell] == (200, 10, 30)).all()
    assert (picture[cell + GAP_PX :, :cell] == (0, 90, 0)).all()


def test_maps_that_never_answer_are_black() -> None:
    picture = maps_picture(images(1), np.full((1, 1, 2, 2), -3, np.float32))
    assert not picture[:, picture.shape[0] + GAP_PX :].any()


@pytest.mark.parametrize(("count", "num_maps", "side"), [(12, 96, 55), (1, 1, 1), (13, 20, 9)])
def test_maps_are_drawn_of_any_size_and_number(count: int, num_maps: int, side: int) -> None:
    maps = np.random.default_rng(1).normal(size=(count, num_maps, side, side)).astype(np.float32)
    drawn = draw_maps(images(count), maps, "conv$1$")
    assert draw_maps(images(count), maps, "conv$1$") == drawn
    with Image.open(io.BytesIO(drawn)) as image:
        assert image.width == 2400


def test_sixteen_maps_are_shown_from_the_first_to_the_last() -> None:
    maps = np.zeros((1, 96, 2, 2), np.float32)
    one = draw_maps(np.zeros((1, 8, 8, 3), np.uint8), maps, "conv1")
    maps[:, 1:95] = -1  # below zero: as black as zero is
    assert draw_maps(np.zeros((1, 8, 8, 3), np.uint8), maps, "conv1") == one
    maps[:, 95] = 1
    assert draw_maps(np.zeros((1, 8, 8, 3), np.uint8), maps, "conv1") != one


def test_a_row_a_layer_beside_the_image_each_with_a_scale_of_its_own() -> None:
    image = np.full((8, 8, 3), (200, 10, 30), np.uint8)
    small, large = (np.zeros((n, side, side), np.float32) for n, side in ((20, 4), (8, 2)))
    small[0], small[19] = 2, 1  # the first and the last are shown
    large[3, 0, 1], large[4] = 50, -7
    picture = layers_picture(image, [small, large])
    step = 128 + GAP_PX
    assert picture.shape == (2 * step - GAP_PX, 10 * step - GAP_PX, 3)
    assert (picture[:, : 2 * step - GAP_PX] == (200, 10, 30)).all()
    cells = picture[64::step, 2 * step + 64 :: step, 0]
    assert cells[0].tolist() == [255, 0, 0, 0, 0, 0, 0, 128]
    assert picture[step : step + 64, 5 * step + 64 : 5 * step + 128].min() == 255
    assert not picture[step + 64 : step + 128, 2 * step :: step].any()


def test_layers_of_any_number_and_size_are_drawn() -> None:
    for count in (1, 5):
        layers = [(f"conv{n}$", np.ones((3 * n, n, n), np.float32)) for n in range(1, count + 1)]
        drawn = draw_layers(images(1)[0], layers)
        with Image.open(io.BytesIO(drawn)) as image:
            assert image.width == 1600
