"""Large JPEGs are decoded smaller, by one rule, and hardly differ for it."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from jpeg_archives import make_jpeg
from PIL import Image

from preprocessing.dataset.pixels import (
    decode_for,
    decode_image,
    decode_square,
    decoding_factor,
    scaled_size,
    to_short_side,
    to_square,
)
from preprocessing.dataset.stored import stored_square
from preprocessing.errors import ImageRejected

SIDE_PX = 32


@pytest.mark.parametrize(
    ("height", "width", "factor"),
    [
        (127, 400, 1),
        (128, 400, 2),
        (400, 255, 2),
        (400, 256, 4),
        (511, 511, 4),
        (512, 512, 8),
        (9999, 9999, 8),
    ],
)
def test_the_shorter_side_stays_twice_the_stored_one(height: int, width: int, factor: int) -> None:
    assert decoding_factor(height, width, SIDE_PX) == factor


@pytest.mark.parametrize("size", [(128, 131), (259, 300), (517, 611)])
def test_what_is_decoded_smaller_says_what_it_covers(size: tuple[int, int]) -> None:
    height, width = size
    body = make_jpeg(3, width=width, height=height)
    factor = decoding_factor(height, width, SIDE_PX)
    decoded = decode_for(body, SIDE_PX)
    assert decoded.factor == factor > 1
    assert decoded.pixels.shape == (-(-height // factor), -(-width // factor), 3)
    assert decoded.box == (0, 0, height / factor, width / factor)
    assert decode_image(body).shape == (height, width, 3)


@pytest.mark.parametrize("size", [(128, 131), (259, 300), (517, 611)])
def test_the_square_and_the_whole_stay_where_they_were(size: tuple[int, int]) -> None:
    body = make_jpeg(3, width=size[1], height=size[0])
    decoded, whole = decode_for(body, SIDE_PX), decode_image(body)
    exact = to_square(whole, SIDE_PX)
    moved = difference(np.roll(exact, 1, axis=1)[:, 1:], exact[:, 1:])
    assert difference(decode_square(body, SIDE_PX), exact) < min(1.0, moved / 4)
    long = to_short_side(decoded.pixels, SIDE_PX, decoded.box)
    assert long.shape[:2] == scaled_size(size, SIDE_PX)
    assert difference(long, to_short_side(whole, SIDE_PX)) < min(1.0, moved / 4)


@pytest.mark.parametrize("side_px", [64, 128, 256])
def test_it_changes_photographs_by_less_than_a_filter_would(
    shared_data: Path, side_px: int
) -> None:
    compared = 0
    for path in sorted((shared_data / "ilsvrc-fullsize").glob("*.JPEG"))[:12]:
        body = path.read_bytes()
        whole = decode_image(body)
        if decode_for(body, side_px).factor == 1:
            assert np.array_equal(decode_square(body, side_px), to_square(whole, side_px))
            continue
        compared += 1
        exact = to_square(whole, side_px)
        height, width = whole.shape[:2]
        short = min(height, width)
        left, top = (width - short) / 2, (height - short) / 2
        filtered = Image.fromarray(whole).resize(
            (side_px, side_px),
            Image.Resampling.LANCZOS,
            box=(left, top, left + short, top + short),
        )
        found = difference(decode_square(body, side_px), exact)
        assert found < difference(np.asarray(filtered), exact), path.name
    assert compared or side_px == 256


def test_an_original_has_the_same_square() -> None:
    body = make_jpeg(3, width=611, height=517)
    square = stored_square(body, "original", SIDE_PX)
    assert np.array_equal(square, decode_square(body, SIDE_PX))


def test_a_large_jpeg_that_is_cut_off_is_rejected() -> None:
    body = make_jpeg(3, width=611, height=517)
    with pytest.raises(ImageRejected):
        decode_square(body[: len(body) // 2], SIDE_PX)


def test_other_formats_are_decoded_whole() -> None:
    sink = io.BytesIO()
    Image.new("RGB", (600, 500), "red").save(sink, "PNG")
    decoded = decode_for(sink.getvalue(), SIDE_PX)
    assert (decoded.factor, decoded.box, decoded.pixels.shape[:2]) == (1, None, (500, 600))


def difference(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(int) - other).mean())
