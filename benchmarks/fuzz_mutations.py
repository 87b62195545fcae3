"""Seeded ways to break bytes: bits, numbers, pieces; and repairs that let the damage get deeper."""

import random
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Final

_NUMBERS: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000)
_NUMBERS_64: Final = (*_NUMBERS, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_BLOCK: Final = 512
_TAG_BYTES: Final = 12
_TAG_TYPES: Final = range(15)
"""Of TIFF 6.0: 1 to 12; 13 is a directory."""
_SIDES_PX: Final = (1, 7, 3_000, 9_000, 9_486, 9_487, 30_000, 65_500, 65_535)
"""9,486 squared is just below 90 megapixels."""

Mutation = Callable[[bytearray, random.Random, Sequence[bytes]], None]


def mutate(rng: random.Random, body: bytes, corpus: Sequence[bytes]) -> bytes:
    """Break some bytes in one to eight ways; `corpus` is what pieces of others come from."""
    out = bytearray(body)
    for _ in range(rng.choice((1, 1, 2, 3, 5, 8))):
        rng.choice(_MUTATIONS)(out, rng, corpus)
    return bytes(out)


def mutate_end(rng: random.Random, body: bytes, num_bytes: int) -> bytes:
    """Break the last bytes only, and keep their number."""
    out = bytearray(body)
    first = max(0, len(out) - num_bytes)
    for _ in range(rng.choice((1, 2, 4, 8))):
        place = rng.randrange(first, len(out))
        out[place] = rng.choice((rng.randrange(256), out[place] ^ 1 << rng.randrange(8), 0, 0xFF))
    return bytes(out)


def with_claimed_size(rng: random.Random, body: bytes) -> bytes:
    """Let an image's header claim other sides, up to some that nobody has the memory for."""
    out = bytearray(body)
    width, height = (rng.choice(_SIDES_PX) for _ in range(2))
    frame = re.search(rb"\xff[\xc0\xc2]\0.\x08", body, re.DOTALL)
    if body.startswith(b"\x89PNG"):
        struct.pack_into(">II", out, 16, width, height)
    elif body.startswith(b"GIF8"):
        struct.pack_into("<HH", out, 6, width, height)
    elif body.startswith(b"BM"):
        struct.pack_into("<ii", out, 18, width, height)
    elif body.startswith((b"P5", b"P6")):
        return b"%s\n%d %d\n255\n" % (body[:2], width, height) + body[15:]
    elif frame is not None:
        struct.pack_into(">HH", out, frame.end(), height, width)
    return bytes(out)


def with_wrong_tags(rng: random.Random, body: bytes) -> bytes:
    """Give tags of an EXIF block, or of a TIFF, other types, counts or values."""
    out = bytearray(body)
    start = re.search(rb"MM\0\*|II\*\0", body)
    if start is None or len(body) < start.start() + 10:
        return body
    order = ">" if start[0][:1] == b"M" else "<"
    place = start.start() + struct.unpack_from(f"{order}I", body, start.start() + 4)[0]
    (count,) = struct.unpack_from(f"{order}H", body, place) if place + 2 <= len(body) else (0,)
    tags = [place + 2 + _TAG_BYTES * number for number in range(count)]
    tags = [tag for tag in tags if tag + _TAG_BYTES <= len(body)]
    for tag in rng.sample(tags, min(len(tags), rng.choice((1, 2, 4)))):
        form, offset = rng.choice((("H", 2), ("H", 2), ("I", 4), ("I", 8)))
        value = rng.choice(_TAG_TYPES if offset == 2 else _NUMBERS)
        struct.pack_into(order + form, out, tag + offset, value)
    return bytes(out)


def with_tar_checksums(body: bytes) -> bytes:
    """Give every block that looks like a header of a tar the checksum it should have."""
    out = bytearray(body)
    for start in range(0, len(out) - _BLOCK + 1, _BLOCK):
        block = out[start : start + _BLOCK]
        if block[257:262] == b"ustar":
            total = sum(block[:148]) + sum(block[156:]) + 8 * ord(" ")
            out[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(out)


def with_png_checksums(body: bytes) -> bytes:
    """Give every chunk of a PNG the checksum it should have."""
    out, place = bytearray(body), 8
    while place + 12 <= len(out):
        (size,) = struct.unpack_from(">I", out, place)
        stop = place + 8 + size
        if stop + 4 > len(out):
            break
        struct.pack_into(">I", out, stop, zlib.crc32(out[place + 4 : stop]))
        place = stop + 4
    return bytes(out)


def _flip_bits(out: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    for _number in range(rng.choice((1, 4, 32))):
        if out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)


def _set_number(out: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    width, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
    number = rng.choice(_NUMBERS_64) % (1 << 8 * width)
    if len(out) >= width:
        place = rng.randrange(len(out) - width + 1)
        out[place : place + width] = number.to_bytes(width, order)


def _set_digits(out: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    """Numbers that are text, as in tars and pickles of protocol 0."""
    places = [place for place, byte in enumerate(out[:4096]) if 48 <= byte < 58]
    for place in rng.sample(places, min(len(places), rng.choice((1, 4, 12)))):
        out[place] = rng.choice(b"0123456789-9 ")


def _cut(out: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    del out[rng.randrange(len(out) + 1) :]


def _drop(out: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    start, stop = _range(out, rng)
    del out[start:stop]


def _double(out: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    start, stop = _range(out, rng)
    out[start:start] = out[start:stop] * rng.choice((1, 1, 3, 50))


def _overwrite(out: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    start, stop = _range(out, rng)
    out[start:stop] = rng.choice((bytes(stop - start), b"\xff" * (stop - start)))


def _insert(out: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    place = rng.randrange(len(out) + 1)
    out[place:place] = rng.randbytes(rng.choice((1, 8, 64, _BLOCK)))


def _splice(out: bytearray, rng: random.Random, corpus: Sequence[bytes]) -> None:
    other = bytearray(rng.choice(corpus))
    start, stop = _range(other, rng)
    place = rng.randrange(len(out) + 1)
    out[place : place + rng.choice((0, stop - start))] = other[start:stop]


def _move_block(out: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    """Blocks of a tar in another order."""
    count = len(out) // _BLOCK
    if count > 1:
        one, other = (_BLOCK * rng.randrange(count) for _number in range(2))
        out[one : one + _BLOCK], out[other : other + _BLOCK] = (
            out[other : other + _BLOCK],
            out[one : one + _BLOCK],
        )


def _range(body: bytearray, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(body) + 1)
    size = rng.choice((1, 4, 16, 64, _BLOCK, len(body)))
    return start, min(len(body), start + rng.randrange(size + 1))


_MUTATIONS: Final[Sequence[Mutation]] = (
    _flip_bits,
    _flip_bits,
    _set_number,
    _set_number,
    _set_digits,
    _cut,
    _drop,
    _double,
    _overwrite,
    _insert,
    _splice,
    _move_block,
)
