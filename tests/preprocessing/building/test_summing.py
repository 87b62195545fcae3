import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.building.summing import (
    EXACT_IMAGES,
    EXACT_PIXELS,
    STRIP_PIXELS,
    WAITING_BYTES,
    PixelAdder,
)
from preprocessing.dataset.statistics import PixelSums

Images = npt.NDArray[np.uint8]


def added(images: Images) -> PixelSums:
    adder = PixelAdder(*images.shape[1:3], num_classes=3)
    for number, image in enumerate(images):
        adder.add(image, number % 3)
    return adder.result()


def check(images: Images) -> None:
    """In 64 bits, where nothing can be lost."""
    sums = added(images)
    wide = images.astype(np.int64)
    np.testing.assert_array_equal(sums.image_sum, wide.sum(axis=0))
    flat = wide.reshape(-1, 3)
    np.testing.assert_array_equal(sums.product_sum, flat.T @ flat)
    assert sums.class_counts.sum() == len(images)


def drawn(shape: tuple[int, ...], seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


@settings(deadline=None)
@given(
    count=st.integers(1, 12),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_they_are_the_sums_of_integers(count: int, height: int, width: int, seed: int) -> None:
    check(drawn((count, height, width), seed))


@pytest.mark.parametrize(
    "num_pixels",
    [
        *(EXACT_PIXELS + difference for difference in (-1, 0, 1)),
        *(STRIP_PIXELS + difference for difference in (-1, 0, 1)),
        2 * STRIP_PIXELS + EXACT_PIXELS + 1,
    ],
)
def test_no_pixel_is_lost_where_blocks_and_strips_end(num_pixels: int) -> None:
    check(drawn((3, 1, num_pixels)))


@pytest.mark.parametrize("side", [8, 16, 181, 256])
def test_the_brightest_images_are_exact(side: int) -> None:
    check(np.full((2, side, side, 3), 255, np.uint8))
    check(255 - drawn((2, side, side)) // 8)  # a float32 too full would lose their odd products


@pytest.mark.parametrize("count", [EXACT_IMAGES - 1, EXACT_IMAGES, EXACT_IMAGES + 1, 600])
def test_no_position_overflows_however_many_images_there_are(count: int) -> None:
    check(np.full((count, 8, 8, 3), 255, np.uint8))


def test_an_overflow_would_be_seen() -> None:
    """One image more, or one pixel more, than what the narrow numbers hold exactly."""
    brightest = np.full(EXACT_IMAGES + 1, 255)
    assert brightest.sum() != brightest.astype(np.uint16).sum(dtype=np.uint16)
    assert brightest[1:].sum() == brightest[1:].astype(np.uint16).sum(dtype=np.uint16)
    assert 255**2 * EXACT_PIXELS < 2**24 < 255**2 * (EXACT_PIXELS + 3)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 17])
def test_what_waits_is_in_the_result(count: int) -> None:
    assert WAITING_BYTES == 8 * 256 * 256 * 3
    check(drawn((count, 256, 256)))


def test_the_result_may_be_asked_for_in_between() -> None:
    images = drawn((5, 9, 9))
    adder = PixelAdder(9, 9, 1)
    for image in images:
        adder.add(image, 0)
        sums = adder.result()
    np.testing.assert_array_equal(sums.image_sum, images.sum(axis=0, dtype=np.int64))
    np.testing.assert_array_equal(sums.product_sum, added(images).product_sum)


def test_an_image_may_be_a_view() -> None:
    wide = drawn((4, 20, 30))
    np.testing.assert_array_equal(
        added(wide[:, 3:13, 7:17]).image_sum, wide[:, 3:13, 7:17].sum(axis=0, dtype=np.int64)
    )


def test_an_array_may_be_used_again_for_the_next_image() -> None:
    images, kept = drawn((3, 10, 10)), np.empty((10, 10, 3), np.uint8)
    adder = PixelAdder(10, 10, 1)
    for image in images:
        kept[...] = image
        adder.add(kept, 0)
    np.testing.assert_array_equal(adder.result().image_sum, images.sum(axis=0, dtype=np.int64))
