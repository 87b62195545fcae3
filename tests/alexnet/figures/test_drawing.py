"""What is drawn is looked at by people; here it is only seen that it is drawn, without a word."""

import io
import logging
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from alexnet.figures.canvas import drawable
from alexnet.figures.confusion import darkest, draw_confusion, shares
from alexnet.figures.curves import Plot, draw_curve
from alexnet.figures.schedule_marks import ScheduleMark
from alexnet.figures.thinning import Curve

ODD = ["<b>grün</b>", "りんご 'x'", "$a^2$ & $b$", "%s {x}", "a" * 90, "\\alpha", ""]


def size_of(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        return image.size


def curve(length: int) -> Curve:
    return Curve(np.arange(1, length + 1) * 20, 1 / np.arange(1, length + 1))


@pytest.mark.parametrize("length", [1, 5, 45_000])
@pytest.mark.parametrize("plot", [Plot(title="a"), Plot(title="b", log_scale=True)])
def test_a_curve_of_any_length_is_drawn(
    length: int, plot: Plot, caplog: pytest.LogCaptureFixture
) -> None:
    marks = [ScheduleMark(20 * n, f"0.{n}") for n in range(12)]
    epochs = {"epochs": 90, "steps_per_epoch": max(1, length * 20 // 90)}
    with caplog.at_level(logging.WARNING):
        png = draw_curve(curve(length), plot, **epochs, marks=marks, validation=curve(1))
    assert size_of(png) == (1100, 525)
    assert not caplog.records


def test_the_same_curve_gives_the_same_bytes() -> None:
    plot = Plot(title="waiting", as_percent=True)
    drawn = [draw_curve(curve(30), plot, epochs=6, steps_per_epoch=100) for _ in range(2)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("num_classes", [1, 7, 30, 31, 1000])
def test_confusions_of_few_and_of_many_classes_are_drawn(num_classes: int) -> None:
    counts = np.eye(num_classes, dtype=np.int64) * 40
    names = [f"{ODD[i % len(ODD)]}{i}" for i in range(num_classes)]
    assert size_of(draw_confusion(counts, names)) == (1250, 1100)


def test_a_class_without_images_has_no_shares() -> None:
    found = shares(np.array([[3, 1], [0, 0]]))
    assert found.tolist() == [[0.75, 0.25], [0.0, 0.0]]


def test_a_mistake_does_not_vanish_among_many_classes() -> None:
    values = np.zeros((1000, 1000))
    values[123, 777] = 0.5
    small = darkest(values, 250)
    assert small.shape == (250, 250)
    assert np.argwhere(small).tolist() == [[30, 194]]
    assert darkest(values, 1000) is values


def test_names_are_drawn_as_they_are_or_not_at_all() -> None:
    assert drawable("Löwe", "class 1") == "Löwe"
    assert drawable("りんご", "class 2") == "class 2"
    assert drawable("$x$", "class 3") == r"\$x\$"


def test_drawing_keeps_no_global_state_and_opens_no_window() -> None:
    script = (
        "import sys, numpy as np\n"
        "from alexnet.figures.curves import Plot, draw_curve\n"
        "from alexnet.figures.thinning import Curve\n"
        "assert 'matplotlib' not in sys.modules\n"
        "curve = Curve(np.arange(3), np.ones(3))\n"
        "draw_curve(curve, Plot(title='x'), epochs=1, steps_per_epoch=3)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": "/usr/bin", "HOME": "/proc/nowhere"},  # no place for a font cache
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
