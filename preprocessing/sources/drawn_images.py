"""One drawn image: a shape or a texture somewhere on a coloured ground.

The class is the shape; its colour is a hint that misleads half the time. Arrays see only
operations that IEEE 754 rounds exactly, so that every processor draws the same bytes.
"""

import colorsys
import hashlib
import io
import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

Plane = npt.NDArray[np.float32]

SIZES_PX: Final = ((96, 128), (128, 96), (96, 112), (112, 96), (100, 125), (120, 100))
"""(height, width)."""
_NOISE: Final = 14
_QUALITY: Final = 85


class Kind(NamedTuple):
    """A class: its words, and its shape as (x, y) → distance, negative inside, radius about 1."""

    words: str
    distance: Callable[[Plane, Plane], Plane]


def generator(*key: object) -> np.random.Generator:
    """Return the generator of a key; the same key draws the same numbers."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def draw_jpeg(label: int, rng: np.random.Generator) -> bytes:
    """Draw one image of a class (a place in KINDS), as a JPEG."""
    out = io.BytesIO()
    Image.fromarray(draw(label, rng)).save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def draw(label: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw one image of a class: (height, width, 3), one of SIZES_PX."""
    height, width = SIZES_PX[int(rng.integers(len(SIZES_PX)))]
    radius_px = min(height, width) / 2 * _between(rng, 0.55, 0.9)
    x, y = _turned_grid(height, width, radius_px, rng)
    coverage = np.clip(0.5 - KINDS[label].distance(x, y) * np.float32(radius_px), 0, 1)
    shape_color, ground_color = _colors(label, rng)
    # A soft slope of light across the ground.
    slope = (x * np.float32(_between(rng, -9, 9)) + y * np.float32(_between(rng, -9, 9)))[..., None]
    image = ground_color + slope + coverage[..., None] * (shape_color - ground_color - slope)
    image += rng.integers(-_NOISE, _NOISE + 1, (height, width, 1), dtype=np.int8)
    return np.clip(image, 0, 255).astype(np.uint8)


def _turned_grid(
    height: int, width: int, radius_px: float, rng: np.random.Generator
) -> tuple[Plane, Plane]:
    """Coordinates of every pixel in the shape's own frame, whose unit is the radius."""
    center_y = height * _between(rng, 0.38, 0.62)
    center_x = width * _between(rng, 0.38, 0.62)
    angle = _between(rng, -0.6, 0.6)
    cos, sin = math.cos(angle) / radius_px, math.sin(angle) / radius_px
    y = (np.arange(height, dtype=np.float32) - np.float32(center_y))[:, None]
    x = (np.arange(width, dtype=np.float32) - np.float32(center_x))[None, :]
    c, s = np.float32(cos), np.float32(sin)
    return x * c + y * s, y * c - x * s


def _colors(label: int, rng: np.random.Generator) -> tuple[Plane, Plane]:
    hinted = _between(rng, 0, 1) < 0.5
    hue = label / len(KINDS) + _between(rng, -0.06, 0.06) if hinted else _between(rng, 0, 1)
    bright, dark = _between(rng, 0.7, 1.0), _between(rng, 0.1, 0.4)
    values = (bright, dark) if _between(rng, 0, 1) < 0.5 else (dark, bright)
    shape = colorsys.hsv_to_rgb(hue % 1, _between(rng, 0.6, 1.0), values[0])
    ground = colorsys.hsv_to_rgb(_between(rng, 0, 1), _between(rng, 0.1, 0.5), values[1])
    return np.array(shape, np.float32) * 255, np.array(ground, np.float32) * 255


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _disc(x: Plane, y: Plane) -> Plane:
    return np.sqrt(x * x + y * y) - 1


def _ring(x: Plane, y: Plane) -> Plane:
    return np.abs(np.sqrt(x * x + y * y) - np.float32(0.8)) - np.float32(0.2)


def _square(x: Plane, y: Plane) -> Plane:
    return np.maximum(np.abs(x), np.abs(y)) - np.float32(0.8)


def _triangle(x: Plane, y: Plane) -> Plane:
    slanted = np.abs(x) * np.float32(0.866) - y * np.float32(0.5)
    return np.maximum(slanted, y) - np.float32(0.5)


def _cross(x: Plane, y: Plane) -> Plane:
    long, short = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
    return np.maximum(long - 1, short - np.float32(0.27))


def _star(x: Plane, y: Plane) -> Plane:
    return np.minimum(_triangle(x, y), _triangle(x, -y))


def _crescent(x: Plane, y: Plane) -> Plane:
    return np.maximum(_disc(x, y), -_disc(x - np.float32(0.55), y))


def _stripes(x: Plane, y: Plane) -> Plane:
    return np.maximum(_square(x, y), _wave(x))


def _checker(x: Plane, y: Plane) -> Plane:
    across, along = _wave(x), _wave(y)
    differ = np.maximum(np.minimum(across, along), -np.maximum(across, along))
    return np.maximum(_square(x, y), differ)


def _dots(x: Plane, y: Plane) -> Plane:
    u, v = _wave(x) + np.float32(0.1), _wave(y) + np.float32(0.1)
    return np.maximum(_square(x, y), np.sqrt(u * u + v * v) - np.float32(0.12))


def _wave(x: Plane) -> Plane:
    """Distance to the bands of a striped plane: four of them to the square's side."""
    position = x * np.float32(2.5)
    from_middle = np.abs(position - np.floor(position) - np.float32(0.5))
    return (from_middle - np.float32(0.25)) * np.float32(0.4)


KINDS: Final = (
    Kind("disc, disk", _disc),
    Kind("ring, annulus", _ring),
    Kind("square", _square),
    Kind("triangle", _triangle),
    Kind("cross, plus sign", _cross),
    Kind("star, hexagram", _star),
    Kind("crescent, lune", _crescent),
    Kind("stripes, banding", _stripes),
    Kind("checkerboard, chequers", _checker),
    Kind("polka dots", _dots),
)
