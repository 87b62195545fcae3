"""Where the time of an image goes, step by step, in this process and by the CPU's time."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pyarrow as pa
import xxhash

from benchmarks.preprocessing.sources import Source
from infra.store import FolderStore, ObjectStore
from preprocessing.building.summing import PixelAdder
from preprocessing.dataset.pixels import decode_for, to_square
from preprocessing.dataset.schema import open_shard_writer, shard_schema
from preprocessing.dataset.stored import encode_jpeg
from preprocessing.errors import ImageRejected
from preprocessing.sources.members import Member

ROUNDS: Final = 3
BARE: Final = ("read", "decode", "square", "encode")
"""The steps of the bare loop; the others are what a build adds."""


def measure_steps(source: Source, members: list[Member], folder: Path) -> dict[str, float]:
    """Return microseconds an image of each step: the least of some rounds."""
    options, side = source.options, source.options.stored_px
    descriptors = {m.archive: os.open(folder / m.archive, os.O_RDONLY) for m in members}
    kept, bodies = [], []
    for member in members:
        body = os.pread(descriptors[member.archive], member.size_bytes, member.start)
        try:
            decode_for(body, side)
        except ImageRejected:
            continue
        kept.append(member)
        bodies.append(body)
    images = [decode_for(body, side) for body in bodies]
    squares = [to_square(image.pixels, side, image.box) for image in images]
    files = [encode_jpeg(square, options.quality, options.chroma) for square in squares]
    sums, digest, of_pixels = PixelAdder(side, side, 1), hashlib.sha256(), xxhash.xxh3_128()
    rows = [_row(i, body, member) for i, (body, member) in enumerate(zip(files, kept, strict=True))]
    steps: dict[str, Callable[[], object]] = {
        "read": lambda: [os.pread(descriptors[m.archive], m.size_bytes, m.start) for m in kept],
        "decode": lambda: [decode_for(body, side) for body in bodies],
        "square": lambda: [to_square(image.pixels, side, image.box) for image in images],
        "encode": lambda: [encode_jpeg(x, options.quality, options.chroma) for x in squares],
        "pixel sums": lambda: [sums.add(square, 0) for square in squares],
        "SHA-256 of the member": lambda: [hashlib.sha256(body).digest() for body in bodies],
        "XXH3 of the pixels": lambda: [of_pixels.update(np.ascontiguousarray(x)) for x in squares],
        "SHA-256 of the shard": lambda: [digest.update(file) for file in files],
    }
    with TemporaryDirectory() as place:
        store = FolderStore(Path(place))
        steps["rows, Parquet and the disk"] = lambda: _write(store, rows, options.rows_per_group)
        return {name: _least(step) / len(bodies) for name, step in steps.items()}


def added_share(steps: dict[str, float]) -> float:
    """Return what a build adds, over what the bare loop takes."""
    bare = sum(steps[name] for name in BARE)
    return sum(steps.values()) / bare - 1


def _least(step: Callable[[], object]) -> float:
    taken = []
    for _ in range(ROUNDS):
        started_s = time.thread_time()
        step()
        taken.append(time.thread_time() - started_s)
    return min(taken) * 1e6


def _row(number: int, body: bytes, member: Member) -> dict[str, Any]:
    image = {"bytes": body, "path": member.name}
    sizes = {"height": 256, "width": 256}
    return {"image": image, "label": 0, "sample_id": number, "wnid": member.wnid} | sizes


def _write(store: ObjectStore, rows: list[dict[str, Any]], rows_per_group: int) -> None:
    schema = shard_schema(["one"])
    with store.open_output("shard.parquet") as file, open_shard_writer(file, schema) as writer:
        for group in _cut(rows, rows_per_group):
            writer.write_table(pa.Table.from_pylist(group, schema=schema), len(group))


def _cut(rows: list[dict[str, Any]], size: int) -> Iterable[list[dict[str, Any]]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
