"""Photographs come upright, at whatever size they are decoded, whatever else their EXIF says."""

import io
import struct

import numpy as np
import pytest
from jpeg_archives import make_jpeg
from PIL import ExifTags, Image, ImageOps

from preprocessing.dataset.orientation import turn_box
from preprocessing.dataset.pixels import (
    Pixels,
    decode_for,
    decode_image,
    decode_square,
    to_short_side,
    to_square,
)

ORIENTATION = 0x0112
SIDE_PX = 32
ORIENTATIONS = range(1, 9)

Entry = tuple[int, int, int, bytes]
"""A tag, its type, its count, and four bytes."""


def exif_of(*entries: Entry) -> bytes:
    body = b"".join(struct.pack(">HHI4s", *entry) for entry in sorted(entries))
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + body + bytes(4)


def oriented(orientation: int) -> Entry:
    return ORIENTATION, 3, 1, struct.pack(">HH", orientation, 0)


def with_exif(jpeg: bytes, block: bytes) -> bytes:
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """As Pillow does it."""
    image = Image.fromarray(pixels)
    image.getexif()[ORIENTATION] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_jpeg_is_turned(orientation: int) -> None:
    jpeg = make_jpeg(3)
    found = decode_image(with_exif(jpeg, exif_of(oriented(orientation))))
    assert np.array_equal(found, upright(decode_image(jpeg), orientation))
    assert found.flags.c_contiguous


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "MPO"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_other_formats_are_turned_once(format: str, orientation: int) -> None:
    image = Image.open(io.BytesIO(make_jpeg(3))).convert("RGB")
    bodies = []
    for exif in (Image.Exif(), Image.Exif()):
        exif[ORIENTATION] = orientation if bodies else 1
        sink = io.BytesIO()
        image.save(sink, format, exif=exif, lossless=True)
        bodies.append(sink.getvalue())
    as_it_lies, turned = map(decode_image, bodies)
    assert np.array_equal(turned, upright(as_it_lies, orientation))


@pytest.mark.parametrize(
    "entry",
    [
        (ExifTags.Base.XResolution, 2, 4, b"72.0"),
        (ExifTags.Base.ImageDescription, 5, 1, b"\0\0\0\x08"),
        (ExifTags.Base.ResolutionUnit, 1, 1, b"\2\0\0\0"),
        (ExifTags.Base.Make, 12, 1, b"\0\0\0\x08"),
        (ExifTags.IFD.Exif, 2, 4, b"none"),
    ],
)
def test_tags_of_wrong_types_cost_no_photograph(entry: Entry) -> None:
    jpeg = make_jpeg(3)
    found = decode_image(with_exif(jpeg, exif_of(oriented(6), entry)))
    assert np.array_equal(found, upright(decode_image(jpeg), 6))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "block",
    [
        exif_of((ORIENTATION, 2, 2, b"6\0\0\0")),
        exif_of(oriented(0)),
        exif_of(oriented(9)),
        exif_of(oriented(6))[:20],
        b"Exif\0\0",
        b"Exif\0\0no TIFF at all",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
    ],
)
def test_an_orientation_that_is_none_leaves_a_photograph_as_it_lies(block: bytes) -> None:
    jpeg = make_jpeg(3)
    assert np.array_equal(decode_image(with_exif(jpeg, block)), decode_image(jpeg))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("size", [(259, 300), (517, 611), (512, 640)])
def test_a_photograph_is_decoded_smaller_all_the_same(
    size: tuple[int, int], orientation: int
) -> None:
    jpeg = make_jpeg(3, width=size[1], height=size[0])
    body = with_exif(jpeg, exif_of(oriented(orientation)))
    plain, turned = decode_for(jpeg, SIDE_PX), decode_for(body, SIDE_PX)
    assert plain.factor == turned.factor > 1
    assert np.array_equal(turned.pixels, upright(plain.pixels, orientation))
    # The part that an edge stands for comes along: a pixel beside, much more would differ.
    square = upright(decode_square(jpeg, SIDE_PX), orientation)
    assert most(decode_square(body, SIDE_PX), square) <= 1
    long = upright(to_short_side(plain.pixels, SIDE_PX, plain.box), orientation)
    assert most(to_short_side(turned.pixels, SIDE_PX, turned.box), long) <= 1
    moved = to_square(turned.pixels, SIDE_PX)
    if turned.box != (0, 0, *turned.pixels.shape[:2]):
        assert most(moved, square) > 1


def test_an_upright_photograph_is_decoded_as_one_without_exif() -> None:
    jpeg = make_jpeg(3, width=611, height=517)
    plain, marked = (
        decode_for(body, SIDE_PX) for body in (jpeg, with_exif(jpeg, exif_of(oriented(1))))
    )
    assert (marked.factor, marked.box) == (plain.factor, plain.box)
    assert np.array_equal(marked.pixels, plain.pixels)


def test_a_box_turns_with_its_image() -> None:
    box, size = (1.0, 2.0, 3.0, 5.0), (10, 20)
    assert [turn_box(box, size, orientation) for orientation in ORIENTATIONS] == [
        (1, 2, 3, 5),
        (1, 13, 3, 5),
        (6, 13, 3, 5),
        (6, 2, 3, 5),
        (2, 1, 5, 3),
        (2, 6, 5, 3),
        (13, 6, 5, 3),
        (13, 1, 5, 3),
    ]


def most(one: Pixels, other: Pixels) -> int:
    return int(np.abs(one.astype(int) - other).max())
