import io

import numpy as np
from PIL import Image

from alexnet.figures.neighbours import Tile, draw_neighbours


def tile(value: int, name: str = "a", *, alike: bool = False) -> Tile:
    return Tile(np.full((40, 40, 3), value, np.uint8), name, alike)


def size_of(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        return image.size


def test_a_row_an_image_and_no_more_than_eight() -> None:
    row = [tile(9), tile(90), tile(200)]
    one, eight = (size_of(draw_neighbours([row] * n, 40, "fc7_relu")) for n in (1, 8))
    assert one[0] == eight[0] == 1600
    assert eight[1] > 6 * one[1]
    assert size_of(draw_neighbours([row] * 9, 40, "fc7_relu")) == eight


def test_what_is_of_the_class_and_what_is_gone_look_different() -> None:
    def drawn(second: Tile) -> bytes:
        return draw_neighbours([[tile(9), second]], 40, "fc7_relu")

    assert len({drawn(tile(224)), drawn(tile(224, alike=True)), drawn(tile(9))}) == 3
    assert drawn(Tile(None, "a")) == drawn(tile(224))


def test_any_name_is_drawn() -> None:
    names = [
        "",
        "りんご",
        "$a^2$ & $b$",
        "a very long name " * 9,
        "Llanfairpwllgwyngyllgogerychwyrn",
    ]
    assert draw_neighbours([[tile(9, name) for name in names]], 40, "$")
