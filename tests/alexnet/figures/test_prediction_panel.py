import io

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from alexnet.figures.canvas import PALE_BLUE, PALE_ORANGE, new_figure
from alexnet.figures.panel import Guess
from alexnet.figures.prediction_panel import Prediction, draw_bars, draw_panel

NAMES = ["mite", "black widow", "りんご", "$x$ & <b>", "a very long name that has no room here", ""]
GUESSES = [Guess(1, 0.5), Guess(0, 0.25), Guess(2, 0.125), Guess(3, 0.0625), Guess(4, 0.03125)]
IMAGE = np.zeros((8, 8, 3), np.uint8)


def prediction(label: int | None) -> Prediction:
    return Prediction(IMAGE, GUESSES, label, "cat.jpg")


@pytest.mark.parametrize(("label", "place"), [(1, 0), (2, 2), (5, None), (None, None)])
def test_a_bar_is_as_long_as_its_class_is_probable(label: int | None, place: int | None) -> None:
    _, axes = new_figure(3, 2)
    draw_bars(axes, prediction(label), NAMES)
    bars = sorted(axes.patches, key=lambda bar: bar.get_y())
    assert [bar.get_width() for bar in bars] == [0.5, 0.25, 0.125, 0.0625, 0.03125]
    assert {bar.get_x() for bar in bars} == {0.0}
    assert axes.get_xlim() == (0, 1)
    low, high = axes.get_ylim()
    assert low > high  # the first is at the top
    colours = [to_hex(bar.get_facecolor()) for bar in bars]
    assert colours == [PALE_ORANGE if n == place else PALE_BLUE for n in range(5)]


def test_bars_are_named_in_their_order_as_far_as_a_name_can_be_drawn() -> None:
    _, axes = new_figure(3, 2)
    draw_bars(axes, prediction(1), NAMES)
    words = [text.get_text() for text in sorted(axes.texts, key=lambda t: t.get_position()[1])]
    assert words == [
        "black widow",
        "mite",
        "class 2",
        r"\$x\$ & <b>",
        "a very long name that has no…",
    ]


def test_of_two_classes_there_are_two_bars_of_the_same_height() -> None:
    _, few = new_figure(3, 2)
    draw_bars(few, Prediction(IMAGE, GUESSES[:2], 0, ""), NAMES)
    _, many = new_figure(3, 2)
    draw_bars(many, prediction(0), NAMES)
    assert len(few.patches) == 2
    assert few.get_ylim() == many.get_ylim()


@pytest.mark.parametrize(("count", "height"), [(1, 875), (4, 875), (5, 1750), (12, 1750)])
def test_eight_images_at_most_are_drawn_four_a_row(count: int, height: int) -> None:
    drawn = draw_panel([prediction(n % 6) for n in range(count)], NAMES)
    with Image.open(io.BytesIO(drawn)) as image:
        assert image.size == (2400, height)


def test_below_an_image_stands_its_true_class_or_its_file() -> None:
    known, unknown = draw_panel([prediction(5)], NAMES), draw_panel([prediction(None)], NAMES)
    assert known != unknown
    assert draw_panel([prediction(None)], NAMES) == unknown
