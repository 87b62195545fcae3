"""What a build is held against: plain loops over the same images, in plain processes.

`bare` is what has to be done to an image and nothing else; `whole` is all that a render task does,
without Ray; `pillow` is how it is done with torchvision.
"""

import io
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

from PIL import Image

from benchmarks.preprocessing.measured import Measured
from benchmarks.preprocessing.sources import Source
from infra.store import FolderStore
from preprocessing.building.execute import render_in_task
from preprocessing.building.plan import PlannedShard
from preprocessing.building.render import RenderJob
from preprocessing.dataset.pixels import decode_square
from preprocessing.dataset.stored import encode_jpeg
from preprocessing.errors import ImageRejected
from preprocessing.prepare import plan_dataset
from preprocessing.settings import PrepareSettings
from preprocessing.sources.members import Member

LoopName = Literal["bare", "whole", "pillow"]
WHAT: Final[dict[LoopName, str]] = {
    "bare": "read, decode, square, encode with the build's own functions; nothing is kept",
    "whole": "render_shard, with sums, digests and Parquet on disk",
    "pillow": "Image.open, convert, resize (bilinear, antialiased), centre crop, save",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopWork:
    """What one process does; picklable."""

    loop: LoopName
    folder: Path
    members: Sequence[Member]
    source: Source
    workspace: Path


def take_loop(work: LoopWork, processes: int) -> Measured:
    """Run a loop in fresh processes, each on a part of the images, all at the same time.

    Their start is not counted.
    """
    context = multiprocessing.get_context("spawn")  # Ray's threads do not survive a fork
    together = context.Barrier(processes)
    pairs = [context.Pipe(duplex=False) for _ in range(processes)]
    children = [
        context.Process(target=_run, args=(work, (rank, processes), together, theirs), daemon=True)
        for rank, (_, theirs) in enumerate(pairs)
    ]
    for child, (_, theirs) in zip(children, pairs, strict=True):
        child.start()
        theirs.close()  # so that a process that dies ends the wait for it
    found: list[Measured] = [ours.recv() for ours, _ in pairs]
    for child in children:
        child.join()
    return Measured(
        images=sum(one.images for one in found),
        elapsed_s=max(one.elapsed_s for one in found),
        cpu_s=sum(one.cpu_s for one in found),
        cores=processes,
    )


def _run(work: LoopWork, part: tuple[int, int], together: Barrier, results: Connection) -> None:
    rank, processes = part
    run = (
        _whole(work, rank, processes)
        if work.loop == "whole"
        else _each(_bare if work.loop == "bare" else _pillow, work, work.members[rank::processes])
    )
    together.wait()
    started_s, cpu_s = time.perf_counter(), time.process_time()
    images = run()
    results.send(
        Measured(
            images=images,
            elapsed_s=time.perf_counter() - started_s,
            cpu_s=time.process_time() - cpu_s,
            cores=1,
        )
    )


def _each(
    one: Callable[[bytes, PrepareSettings], bytes], work: LoopWork, members: Sequence[Member]
) -> Callable[[], int]:
    archives = {name: os.open(work.folder / name, os.O_RDONLY) for name in _archives(members)}
    places = [(archives[m.archive], m.size_bytes, m.start) for m in members]

    def run() -> int:
        done = 0
        for descriptor, size_bytes, start in places:
            try:
                one(os.pread(descriptor, size_bytes, start), work.source.options)
            except (ImageRejected, OSError):
                continue
            done += 1
        return done

    return run


def _archives(members: Iterable[Member]) -> set[str]:
    return {member.archive for member in members}


def _bare(body: bytes, options: PrepareSettings) -> bytes:
    square = decode_square(body, options.stored_px)
    return encode_jpeg(square, options.quality, options.chroma)


def _pillow(body: bytes, options: PrepareSettings) -> bytes:
    """As torchvision's Resize and CenterCrop do it, on Pillow images."""
    side = options.stored_px
    image = Image.open(io.BytesIO(body)).convert("RGB")
    short = min(image.size)
    width, height = (int(side * length / short) for length in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - side) / 2), round((height - side) / 2)
    out = io.BytesIO()
    image.crop((left, top, left + side, top + side)).save(out, "JPEG", quality=options.quality)
    return out.getvalue()


def _shards_of(plan: Sequence[PlannedShard], num_images: int) -> Sequence[PlannedShard]:
    """Return the first shards of a plan: so many images, or a part of a shard more."""
    stops = accumulate(len(planned.members) for planned in plan)
    return [
        planned
        for planned, stop in zip(plan, stops, strict=True)
        if stop - len(planned.members) < num_images
    ]


def _whole(work: LoopWork, rank: int, processes: int) -> Callable[[], int]:
    index = work.source.index(work.workspace)
    plan = _shards_of(plan_dataset(index, work.source.options), len(work.members))[rank::processes]

    def run() -> int:
        with TemporaryDirectory(dir=work.workspace) as folder:
            job = RenderJob(
                source=index.store,
                target=FolderStore(Path(folder)),
                classes=index.classes,
                options=work.source.options,
            )
            return sum(render_in_task(job, planned).shard.num_rows for planned in plan)

    return run
