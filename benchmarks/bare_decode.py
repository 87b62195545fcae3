"""The base of the loader: plain processes, one a CPU, that only read, decode, crop and flip.

Written to be quick, for it is what a loader is judged by: the same Parquet row groups, mapped; the
same libjpeg-turbo into a kept buffer; one copy into a kept block. No order, no hand-over.
"""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
import torch

from benchmarks.passes import Pass, Results, Stamp, Subject, compare, make_pass
from preprocessing.dataset.schema import encoded_column

if TYPE_CHECKING:
    from benchmarks.bench import Bench  # Ray, which the processes below have no use for

BLOCK_ROWS: Final = 256
"""Rows of the block that is written again and again, as large as the loader's."""
GROUPS_AT_ONCE: Final = 8

START_S: Final = 120.0
PASS_S: Final = 3600.0

Group = tuple[int, int]
"""Number of a shard, number of its row group."""


@dataclass(frozen=True, slots=True)
class BareWork:
    """What one process goes through, over and over."""

    shards: tuple[Path, ...]
    groups: tuple[Group, ...]
    stored_px: int
    crop_px: int
    seed: int


@dataclass(frozen=True, slots=True)
class BareOrder:
    """One pass of one process."""

    images: int
    flip: bool


class BareLoop:
    """Decodes, crops and flips in this process."""

    def __init__(self, work: BareWork) -> None:
        self._work = work
        self._shards = [pq.ParquetFile(path, memory_map=True) for path in work.shards]
        self._rng = np.random.default_rng(work.seed)
        self._decoded = np.empty((work.stored_px, work.stored_px, 3), np.uint8)
        self.block = np.empty((BLOCK_ROWS, work.crop_px, work.crop_px, 3), np.uint8)

    def run(self, order: BareOrder) -> list[Stamp]:
        """Go on until so many images are done; a stamp every few row groups."""
        done, stamps = 0, []
        for jpegs in self._jpegs():
            done += self._produce(jpegs[: order.images - done], order)
            stamps.append(Stamp(time.perf_counter(), done))
            if done == order.images:
                break
        return stamps

    def _jpegs(self) -> Iterator[list[npt.NDArray[np.uint8]]]:
        groups = self._work.groups
        starts = cycle(range(0, len(groups), GROUPS_AT_ONCE))
        for start in starts:
            yield encoded_column(self._read(groups[start : start + GROUPS_AT_ONCE]))

    def _read(self, groups: tuple[Group, ...]) -> pa.Table:
        tables = [
            self._shards[shard].read_row_group(group, columns=["image.bytes"], use_threads=False)
            for shard, group in groups
        ]
        return pa.concat_tables(tables)

    def _produce(self, jpegs: list[npt.NDArray[np.uint8]], order: BareOrder) -> int:
        side, decoded, block = self._work.crop_px, self._decoded, self.block
        margin = self._work.stored_px - side
        tops, lefts = self._rng.integers(0, margin + 1, (2, len(jpegs))).tolist()
        flips = (self._rng.random(len(jpegs)) < 0.5).tolist()
        for i, jpeg in enumerate(jpegs):
            simplejpeg.decode_jpeg(jpeg, "RGB", buffer=decoded)
            crop = decoded[tops[i] : tops[i] + side, lefts[i] : lefts[i] + side]
            if order.flip and flips[i]:
                # torch's own kernel and a copy: 12 us. NumPy's `[:, ::-1]` takes 150 of a 224-pixel
                # crop, most of what the decoding takes; channel by channel it is 37.
                crop = torch.flip(torch.from_numpy(crop), (1,)).numpy()
            block[i % BLOCK_ROWS] = crop
        return len(jpegs)


class BareProcesses:
    """Processes that wait for orders; between passes they cost nothing."""

    def __init__(self, connections: list[Connection]) -> None:
        self._connections = connections

    def take(self, images: int, *, flip: bool) -> Pass:
        """Have all of them decode at the same time, `images` together."""
        count = len(self._connections)
        started_s = time.perf_counter()
        for rank, connection in enumerate(self._connections):
            share = images * (rank + 1) // count - images * rank // count
            connection.send(BareOrder(share, flip))
        return make_pass(started_s, [_answer(c, PASS_S) for c in self._connections])


@contextmanager
def bare_processes(bench: "Bench") -> Iterator[BareProcesses]:
    """Start one process a CPU, each with its part of the train split's row groups."""
    context = multiprocessing.get_context("spawn")  # Ray's threads do not survive a fork
    pairs = [context.Pipe() for _ in range(bench.cpus)]
    processes = [
        context.Process(target=_serve, args=(theirs, plan_work(bench, rank)), daemon=True)
        for rank, (_, theirs) in enumerate(pairs)
    ]
    ours = [mine for mine, _ in pairs]
    for process, (_, theirs) in zip(processes, pairs, strict=True):
        process.start()
        theirs.close()  # so that a process that dies ends the wait for it
    try:
        for connection in ours:
            _answer(connection, START_S)
        yield BareProcesses(ours)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def plan_work(bench: "Bench", rank: int) -> BareWork:
    """Give a process every so-manieth row group; all of them where there are too few."""
    size = bench.manifest.rows_per_group
    groups = [
        (number, group)
        for number, shard in enumerate(bench.manifest.train.shards)
        for group in range(-(-shard.num_rows // size))
    ]
    return BareWork(
        shards=tuple(bench.dataset / shard.path for shard in bench.manifest.train.shards),
        groups=tuple(groups[rank :: bench.cpus] or groups),
        stored_px=bench.settings.stored_px,
        crop_px=bench.settings.crop_px,
        seed=rank,
    )


def subject(processes: BareProcesses, bench: "Bench", *, name: str, flip: bool) -> Subject:
    """Describe a pass of the bare loop."""
    return Subject(
        name=name,
        what=f"{bench.cpus} plain processes: row group → simplejpeg into a kept buffer → random"
        f" crop of {bench.settings.crop_px} px →"
        f" {'torch.flip of half of them' if flip else 'no flip'} → kept block; no hand-over",
        take=lambda: processes.take(bench.settings.images, flip=flip),
    )


def measure(bench: "Bench") -> Results:
    """Measure the bare loop, and what its flip costs: the loader leaves flipping to the step."""
    with bare_processes(bench) as processes:
        return compare(
            "bare decode without the flip / with it",
            subject(processes, bench, name="bare decode", flip=True),
            subject(processes, bench, name="bare decode, no flip", flip=False),
            quantity="steady",
            num_passes=bench.settings.passes,
        )


def _serve(connection: Connection, work: BareWork) -> None:
    torch.set_num_threads(1)
    loop = BareLoop(work)
    loop.run(BareOrder(BLOCK_ROWS, flip=True))
    connection.send(())
    while True:
        connection.send(loop.run(connection.recv()))


def _answer(connection: Connection, timeout_s: float) -> list[Stamp]:
    if not connection.poll(timeout_s):
        raise TimeoutError(f"a bare process did not answer within {timeout_s:g} s")
    stamps: list[Stamp] = connection.recv()
    return stamps
