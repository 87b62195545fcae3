import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from preprocessing.dataset.pixels import central_square, decode_image, to_short_side, to_square
from preprocessing.dataset.stored import decode_stored, encode_jpeg, encode_raw, stored_square
from preprocessing.errors import ImageRejected

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 37, 3), dtype=np.uint8)


def test_raw_images_come_back_as_they_were_without_a_copy() -> None:
    stored = np.frombuffer(encode_raw(PIXELS), np.uint8)
    pixels = decode_stored(stored)
    assert np.array_equal(pixels, PIXELS)
    assert np.shares_memory(pixels, stored)


def test_others_can_open_raw_images() -> None:
    body = encode_raw(PIXELS)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(body))), PIXELS)
    assert np.array_equal(decode_image(body), PIXELS)


@pytest.mark.parametrize("cut", [1, 600, 24 * 37 * 3])
def test_a_cut_raw_image_is_rejected(cut: int) -> None:
    with pytest.raises(ImageRejected, match="stored image cannot be decoded"):
        decode_stored(encode_raw(PIXELS)[:-cut])


def test_a_larger_buffer_serves_a_smaller_jpeg() -> None:
    body = encode_jpeg(PIXELS, 90)
    buffer = np.empty(10_000, np.uint8)
    pixels = decode_stored(body, into=buffer)
    assert np.shares_memory(pixels, buffer)
    assert np.array_equal(pixels, decode_stored(body))


def test_chroma_is_what_was_asked_for() -> None:
    for chroma in ("420", "444"):
        assert simplejpeg.decode_jpeg_header(encode_jpeg(PIXELS, 90, chroma))[3] == chroma


@pytest.mark.parametrize("quality", [85, 95])
def test_the_quality_is_what_was_asked_for(quality: int) -> None:
    sink = io.BytesIO()
    Image.fromarray(PIXELS).save(sink, "JPEG", quality=quality)
    ours = Image.open(io.BytesIO(encode_jpeg(PIXELS, quality)))
    assert ours.quantization == Image.open(io.BytesIO(sink.getvalue())).quantization


def test_others_see_the_colours_of_a_stored_jpeg() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    seen = np.asarray(Image.open(io.BytesIO(encode_jpeg(red, 90))))
    assert seen[..., 0].min() > 200
    assert seen[..., 1:].max() < 60


def test_squares_are_scaled_by_the_antialiased_bicubic_filter() -> None:
    expected = ImageOps.fit(Image.fromarray(PIXELS), (12, 12), Image.Resampling.BICUBIC)
    assert np.array_equal(to_square(PIXELS, 12), np.asarray(expected))


@pytest.mark.parametrize(("size", "expected"), [((30, 40), (24, 32)), ((1000, 24), (1000, 24))])
def test_the_shorter_side_is_scaled(size: tuple[int, int], expected: tuple[int, int]) -> None:
    scaled = to_short_side(np.zeros((*size, 3), np.uint8), 24)
    assert scaled.shape == (*expected, 3)


@pytest.mark.parametrize("size", [(2, 700), (60_000, 10)])
def test_what_would_grow_too_long_is_rejected(size: tuple[int, int]) -> None:
    with pytest.raises(ImageRejected, match=r"too narrow|more than"):
        to_short_side(np.zeros((*size, 3), np.uint8), 256)


def test_squares_are_the_same_however_an_image_is_stored() -> None:
    coarse = Image.fromarray(PIXELS[:6, :8])
    smooth = np.asarray(coarse.resize((400, 300), Image.Resampling.BICUBIC))
    square = to_square(smooth, 60)
    kept = stored_square(encode_raw(to_short_side(smooth, 60)), "keep-aspect", 60)
    original = stored_square(encode_raw(smooth), "original", 60)
    assert np.array_equal(original, square)
    # Scaled as a whole or only the middle of it: the borders differ.
    assert np.abs(kept.astype(int) - square).mean() < 0.5
    assert kept.shape == (60, 60, 3)


def test_the_middle_of_an_image_of_the_right_side_is_cut_not_scaled() -> None:
    assert np.array_equal(to_square(PIXELS, 24), PIXELS[:, 6:30])
    assert np.array_equal(central_square(PIXELS.swapaxes(0, 1)), PIXELS[:, 6:30].swapaxes(0, 1))
