import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from preprocessing.dataset.pixels import FORMATS, decode_image
from preprocessing.errors import ImageRejected

GREYS = np.array([[0, 255, 256, 4096], [32_767, 32_768, 65_280, 65_535]], np.uint16)
UPPER = [[0, 0, 1, 16], [127, 128, 255, 255]]


def image_as(format: str) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(sink, format)
    return sink.getvalue()


def saved(pixels: npt.NDArray[Any], format: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format, **options)
    return sink.getvalue()


@pytest.mark.parametrize("format", [*FORMATS, "MPO"])
def test_common_formats_are_decoded_red_first(format: str) -> None:
    pixels = decode_image(image_as(format))
    assert pixels.shape == (6, 8, 3)
    assert pixels[..., 0].min() > 200
    assert pixels[..., 1:].max() < 60


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_of_several_frames_the_first_is_taken(format: str) -> None:
    sink, blue = io.BytesIO(), Image.new("RGB", (8, 6), "blue")
    Image.new("RGB", (8, 6), "red").save(sink, format, save_all=True, append_images=[blue])
    pixels = decode_image(sink.getvalue())
    assert pixels.shape == (6, 8, 3)
    assert pixels[..., 0].min() > 200
    assert pixels[..., 2].max() < 60


@pytest.mark.parametrize(
    ("mode", "color", "options"),
    [
        ("RGBA", (200, 200, 200, 0), {}),
        ("LA", (200, 0), {}),
        ("P", 0, {"transparency": 0}),
        ("P", 0, {"transparency": b"\0"}),
    ],
)
def test_what_is_transparent_keeps_its_colour(
    mode: str, color: int | tuple[int, ...], options: dict[str, Any]
) -> None:
    image, sink = Image.new(mode, (8, 6), color), io.BytesIO()
    if mode == "P":
        image.putpalette([200, 200, 200, 0, 0, 0])
    image.save(sink, "PNG", **options)
    assert np.all(decode_image(sink.getvalue()) == 200)


@pytest.mark.parametrize("format", ["EPS", "DDS", "ICO", "PDF"])
def test_others_are_refused_unread(format: str) -> None:
    with pytest.raises(ImageRejected, match="not an image"):
        decode_image(image_as(format))


@pytest.mark.parametrize(
    "body",
    [
        saved(GREYS, "PNG"),
        saved(GREYS, "TIFF"),
        saved(GREYS.astype(">u2"), "TIFF"),
        saved(GREYS, "TIFF", compression="tiff_lzw"),
        b"P5 4 2 65535\n" + GREYS.astype(">u2").tobytes(),
        b"P2 4 2 65535\n" + b" ".join(b"%d" % grey for grey in GREYS.flat),
    ],
    ids=["PNG", "TIFF", "TIFF, high byte first", "packed TIFF", "PGM", "PGM as text"],
)
def test_of_greys_of_16_bits_the_upper_8_are_taken(body: bytes) -> None:
    pixels = decode_image(body)
    assert pixels.shape == (2, 4, 3)
    for channel in range(3):
        assert pixels[..., channel].tolist() == UPPER


def test_greys_of_other_depths_reach_from_black_to_white() -> None:
    assert decode_image(b"P5 3 1 1000\n\0\0\1\xf4\3\xe8")[0, :, 0].tolist() == [0, 128, 255]
    tiff = saved(np.full((1, 4), 65_535, np.uint16), "TIFF")
    depth = struct.pack("<HHI", 258, 3, 1)
    assert depth + b"\x10" in tiff
    assert decode_image(tiff.replace(depth + b"\x10", depth + b"\x0c")).min() == 255  # 12 bits


@pytest.mark.parametrize(
    "body",
    [
        saved(np.ones((2, 2), np.float32), "TIFF"),
        saved(np.ones((2, 2), np.int32), "TIFF"),
        b"Pf 1 1 1.0\n\0\0\0\0",
    ],
    ids=["TIFF of floats", "TIFF of integers", "PFM"],
)
def test_greys_without_a_known_white_are_refused(body: bytes) -> None:
    with pytest.raises(ImageRejected, match="greys of 32 bits or with a sign: convert"):
        decode_image(body)


@pytest.mark.parametrize(
    "error",
    [
        NotImplementedError("no such variant"),
        TypeError("no such variant"),
        AttributeError("no such variant"),
        KeyError("no such variant"),
        OverflowError("no such variant"),
        IndexError(),
    ],
)
def test_whatever_pillow_raises_is_a_reject(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(ImageRejected, match=r"no such variant|IndexError"):
        decode_image(b"BM")
