"""libjpeg-turbo's scaled decoding: how much time it saves, and what it does to the stored square.

Beside it, what another resize filter would do. Scaled by 1/2, 1/4 or 1/8 at several stored sizes,
so that a few photographs give many cases.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from benchmarks.report import format_table
from preprocessing.dataset.pixels import Pixels, decode_image, to_square

FACTORS: Final = (2, 4, 8)
"""Those for which libjpeg-turbo has quick code; 3/4, say, takes longer than decoding in full."""
SIDES_PX: Final = (256, 192, 160, 128, 96, 64)
ROUNDS: Final = 3
_BANDS: Final = (1.0, 1.5, 2.0, 3.0)
_HEAD: Final = (
    "factor, shorter side / stored side after it", "cases", "time", "mean difference", "largest",
    "most", "bilinear, mean", "Lanczos, mean", "within bilinear", "within Lanczos",
)  # fmt: skip

Case = tuple[int, float]
"""Factor, and the least of what is left for the resize to scale."""


class Found(NamedTuple):
    """One photograph at one factor and stored side; differences in levels of 255."""

    time_share: float
    """Of decoding in full and resizing."""
    mean: float
    most: int
    bilinear: float
    lanczos: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, required=True, metavar="DIR", help="JPEGs")
    options = parser.parse_args(arguments)
    found: dict[Case, list[Found]] = defaultdict(list)
    for path in sorted(options.photographs.glob("*.[jJ][pP]*[gG]")):
        for case, one in look_at(path.read_bytes()):
            found[case].append(one)
    print(format_table(_HEAD, [_row(case, found[case]) for case in sorted(found)]))
    return 0


def look_at(body: bytes) -> list[tuple[Case, Found]]:
    """Try every stored side and factor that leaves something to be scaled down."""
    full = decode_image(body)
    found = []
    for side in SIDES_PX:
        square = to_square(full, side)
        for factor in FACTORS:
            left = min(-(-length // factor) for length in full.shape[:2]) / side
            if left >= 1:
                band = max(low for low in _BANDS if low <= left)
                found.append(((factor, band), _compare(body, full, square, factor)))
    return found


def decode_scaled(body: bytes, factor: int) -> Pixels:
    """Decode at 1/factor; the last row and column may stand for less than whole ones."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(body)
    return simplejpeg.decode_jpeg(
        body, "RGB", min_height=-(-height // factor), min_width=-(-width // factor), min_factor=1
    )


def _compare(body: bytes, full: Pixels, square: Pixels, factor: int) -> Found:
    size, side = full.shape[:2], square.shape[0]

    box = (0, 0, size[0] / factor, size[1] / factor)

    def scaled() -> Pixels:
        return to_square(decode_scaled(body, factor), side, box)

    difference = _difference(scaled(), square)
    return Found(
        time_share=_time_s(scaled) / _time_s(lambda: to_square(decode_image(body), side)),
        mean=float(difference.mean()),
        most=int(difference.max()),
        bilinear=float(_difference(_filtered(full, side, "BILINEAR"), square).mean()),
        lanczos=float(_difference(_filtered(full, side, "LANCZOS"), square).mean()),
    )


def _filtered(full: Pixels, side_px: int, name: str) -> Pixels:
    height, width = full.shape[:2]
    short = min(height, width)
    top, left = (height - short) / 2, (width - short) / 2
    box = (left, top, left + short, top + short)
    image = Image.fromarray(full)
    return np.asarray(image.resize((side_px, side_px), Image.Resampling[name], box=box))


def _difference(one: Pixels, other: Pixels) -> Pixels:
    return np.maximum(one, other) - np.minimum(one, other)


def _time_s(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(ROUNDS):
        started_s = time.thread_time()
        work()
        taken.append(time.thread_time() - started_s)
    return min(taken)


def _row(case: Case, found: list[Found]) -> list[str]:
    factor, band = case
    return [
        f"1/{factor}, {band:g} or more",
        str(len(found)),
        f"{median(one.time_share for one in found):.2f}",
        f"{median(one.mean for one in found):.2f}",
        f"{max(one.mean for one in found):.2f}",
        str(max(one.most for one in found)),
        f"{median(one.bilinear for one in found):.2f}",
        f"{median(one.lanczos for one in found):.2f}",
        f"{sum(one.mean <= one.bilinear for one in found) / len(found):.0%}",
        f"{sum(one.mean <= one.lanczos for one in found) / len(found):.0%}",
    ]


if __name__ == "__main__":
    sys.exit(main())
