import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from alexnet.figures.saliency import draw_saliency, saliency_picture, suppressed

GRADIENTS = arrays(np.float64, (4, 5, 3), elements=st.floats(-1e3, 1e3))


@given(GRADIENTS)
def test_what_is_below_three_deviations_is_gone_and_the_rest_as_it_was(
    gradient: np.ndarray,
) -> None:
    found = suppressed(gradient)
    values = gradient.ravel().tolist()
    mean = sum(values) / len(values)
    deviation = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
    clear = np.abs(np.abs(gradient) - 3 * deviation) > 1e-9 * (1 + deviation)
    expected = np.where(np.abs(gradient) < 3 * deviation, 0.0, gradient)
    np.testing.assert_array_equal(found[clear], expected[clear])


def test_either_sign_counts() -> None:
    gradient = np.zeros((10, 10, 3))
    gradient[0, 0, 0], gradient[9, 9, 2], gradient[5, 5, 1] = 10.0, -20.0, 0.5
    assert np.argwhere(suppressed(gradient)).tolist() == [[0, 0, 0], [9, 9, 2]]


def test_the_greatest_channel_of_a_pixel_is_drawn_white_on_black() -> None:
    gradient = np.zeros((10, 10, 3))
    gradient[2, 3] = [10.0, -20.0, 0.0]
    gradient[7, 8] = [0.0, 0.0, 10.0]
    picture = saliency_picture(gradient)
    assert picture.shape == (10, 10, 3)
    assert picture[2, 3].tolist() == [255] * 3
    assert picture[7, 8].tolist() == [128] * 3
    assert np.count_nonzero(picture) == 6


def test_a_gradient_that_is_zero_everywhere_is_black() -> None:
    assert not saliency_picture(np.zeros((3, 3, 3), np.float32)).any()


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_any_number_of_images_is_drawn(count: int) -> None:
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, 20, 20, 3), dtype=np.uint8)
    gradients = rng.normal(size=(count, 20, 20, 3)).astype(np.float32)
    drawn = draw_saliency(images, gradients, [f"class {n}" for n in range(count)])
    with Image.open(io.BytesIO(drawn)) as image:
        assert image.width == 2400
