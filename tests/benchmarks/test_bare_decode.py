from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.bare_decode import BareLoop, BareOrder, BareWork
from preprocessing.dataset.stored import decode_stored, encode_jpeg

STORED_PX, CROP_PX, ROWS = 24, 16, 5


@pytest.fixture
def work(tmp_path: Path) -> BareWork:
    """Two shards of two row groups each; every image is an uneven slope of its own."""
    shards = []
    for shard in range(2):
        rows = [{"image": {"bytes": encode_jpeg(slope(shard * 8 + i), 95)}} for i in range(8)]
        shards.append(tmp_path / f"{shard}.parquet")
        pq.write_table(pa.Table.from_pylist(rows), shards[-1], row_group_size=ROWS)
    groups = ((0, 0), (0, 1), (1, 0), (1, 1))
    return BareWork(tuple(shards), groups, STORED_PX, CROP_PX, seed=0)


def slope(number: int) -> np.ndarray:
    y, x = np.mgrid[:STORED_PX, :STORED_PX]
    return np.stack([y * 9, x * 9, np.full_like(x, number * 15)], axis=2).astype(np.uint8)


@pytest.mark.parametrize("flip", [False, True])
def test_each_row_becomes_a_crop_of_its_own_image_half_of_them_mirrored(
    work: BareWork, flip: bool
) -> None:
    loop = BareLoop(work)
    stamps = loop.run(BareOrder(16, flip))
    assert [stamp.images for stamp in stamps] == [16]
    mirrored = 0
    for number, produced in enumerate(loop.block[:16]):
        stored = decode_stored(encode_jpeg(slope(number), 95))
        plain = is_a_crop(produced, stored)
        mirrored += not plain
        assert plain or is_a_crop(produced[:, ::-1], stored)
    assert (0 < mirrored < 16) == flip


def is_a_crop(produced: np.ndarray, stored: np.ndarray) -> bool:
    places = range(STORED_PX - CROP_PX + 1)
    return any(
        np.array_equal(produced, stored[y : y + CROP_PX, x : x + CROP_PX])
        for y in places
        for x in places
    )


def test_it_goes_round_until_it_has_as_many_as_were_asked_for(work: BareWork) -> None:
    stamps = BareLoop(work).run(BareOrder(37, flip=True))
    assert [stamp.images for stamp in stamps] == [16, 32, 37]
    assert stamps == sorted(stamps)
