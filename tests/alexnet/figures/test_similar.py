import numpy as np

from alexnet.figures.similar import GAP_PX, QUERY_GAP_PX, SMALLEST_PX, similar_picture


def square(value: int, side: int) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


def test_a_row_is_an_image_a_wide_gap_and_its_neighbours() -> None:
    side = SMALLEST_PX
    sheet = similar_picture(
        [[square(9 * row + column, side) for column in range(3)] for row in (0, 1)], side
    )
    assert sheet.shape == (2 * side + GAP_PX, 3 * side + 2 * GAP_PX + QUERY_GAP_PX, 3)
    lefts = [0, side + GAP_PX + QUERY_GAP_PX, 2 * (side + GAP_PX) + QUERY_GAP_PX]
    for row, top in enumerate((0, side + GAP_PX)):
        for column, left in enumerate(lefts):
            tile = sheet[top : top + side, left : left + side]
            assert np.all(tile == 9 * row + column)
            sheet[top : top + side, left : left + side] = 255
    assert np.all(sheet == 255)


def test_small_images_are_enlarged_and_what_is_gone_is_grey() -> None:
    sheet = similar_picture([[square(0, 40), None]], 40)
    assert sheet.shape == (120, 120 + GAP_PX + QUERY_GAP_PX + 120, 3)
    assert np.all(sheet[:, :120] == 0)
    assert np.unique(sheet[:, -120:]).tolist() == [224]
