"""Our own build: over a Ray that is up, as a command from nothing, and when all is there."""

import json
import shutil
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Final

import psutil

from benchmarks.passes import STEADY_FROM, STEADY_TO, Stamp, steady_rate
from benchmarks.preprocessing.builds import Build, finish
from benchmarks.preprocessing.killer import RENDERS
from benchmarks.preprocessing.measured import Measured, peak_memory_bytes
from benchmarks.preprocessing.sources import Source
from infra.commit import Frozen
from infra.store import FolderStore
from preprocessing.prepare import prepare_dataset
from preprocessing.settings import SOURCES

COMMAND_LOOK_S: Final = 0.02
MIN_STAMPS: Final = 20
"""With fewer shards, what is half rendered at a stamp would count for too much."""
_BETWEEN: Final = (STEADY_FROM, STEADY_TO)
_RESTS: Final = "ray::IDLE"
"""How Ray titles a worker between two tasks."""
_NUMBERS: Final = count()


class Commands(Frozen):
    """`alexnet prepare` as a whole, from its start to its end."""

    first_s: float
    """In an empty workspace."""
    again_s: float
    """When the dataset is there."""
    peak_bytes: int | None
    """Of the command's own process, in an empty workspace."""


def take_build(source: Source, workers: int, folder: Path) -> Measured:
    """Build in a new workspace, indexing and commit included. Ray is up."""
    workspace = folder / f"ours-{next(_NUMBERS)}"
    options = source.options.model_copy(update={"parallelism": workers})
    stamps: list[Stamp] = []
    cpu_at: list[tuple[int, float]] = []
    """Images done and the CPU time until then, first at STEADY_FROM, then at STEADY_TO of them."""

    def note(done: int, total: int, _note: str = "") -> None:
        stamps.append(Stamp(time.perf_counter(), done))
        if len(cpu_at) < len(_BETWEEN) and done >= _BETWEEN[len(cpu_at)] * total:
            cpu_at.append((done, tree_cpu_s()))

    cpu_s, started_s = tree_cpu_s(), time.perf_counter()
    index = source.index(workspace)
    manifest = prepare_dataset(index, source.dataset, options, FolderStore(workspace), note)
    elapsed_s = time.perf_counter() - started_s
    cpu_s = tree_cpu_s() - cpu_s
    # Once, at the end: a look takes milliseconds, and no loop that we are held against has any.
    peak_worker_bytes = _peak_of_workers()
    shutil.rmtree(workspace)
    steady = steady_rate(stamps)
    images = manifest.train.count + manifest.val.count
    return Measured(
        images=images,
        elapsed_s=elapsed_s,
        cpu_s=cpu_s,
        cores=workers,
        steady_s=None if steady is None else images / steady,
        steady_cpu_s=images * _cpu_s_an_image(cpu_at) if len(stamps) >= MIN_STAMPS else None,
        peak_worker_bytes=peak_worker_bytes,
    )


def take_command(source: Source, workers: int, folder: Path) -> Commands:
    """Run the command in a new workspace, then again."""
    workspace = folder / f"command-{next(_NUMBERS)}"
    build = Build(workspace=str(workspace), settings=_settings(source), workers=workers)
    first_s, peak_bytes = _run(build)
    again_s, _ = _run(build)
    shutil.rmtree(workspace)
    return Commands(first_s=first_s, again_s=again_s, peak_bytes=peak_bytes)


def _run(build: Build) -> tuple[float, int | None]:
    started_s, peak_bytes = time.perf_counter(), None
    process = build.start()
    while process.poll() is None:
        peak_bytes = peak_memory_bytes(process.pid) or peak_bytes
        time.sleep(COMMAND_LOOK_S)
    finish(process)
    return time.perf_counter() - started_s, peak_bytes


def _cpu_s_an_image(cpu_at: Sequence[tuple[int, float]]) -> float:
    (first, first_s), (last, last_s) = cpu_at
    return (last_s - first_s) / max(1, last - first)


def tree_cpu_s() -> float:
    """Return the CPU time of this process and of all below it, ended ones included."""
    total = 0.0
    for process in _tree():
        try:
            total += sum(process.cpu_times()[:4])  # user, system, and both of children that ended
        except psutil.NoSuchProcess:
            continue
    return total


def _settings(source: Source) -> tuple[str, ...]:
    dataset = source.dataset.model_dump(include={"name", *SOURCES})
    options = source.options.model_dump(exclude={"parallelism"})
    return (
        *(f"dataset.{name}={json.dumps(value)}" for name, value in dataset.items()),
        *(f"prepare.{name}={json.dumps(value)}" for name, value in options.items()),
    )


def _tree() -> list[psutil.Process]:
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def _peak_of_workers() -> int | None:
    """Return the most that a process that renders, or has rendered, had in memory so far."""
    found: list[int] = []
    for process in psutil.Process().children(recursive=True):
        try:
            if " ".join(process.cmdline()).startswith((RENDERS, _RESTS)):
                found.append(peak_memory_bytes(process.pid) or 0)
        except psutil.NoSuchProcess:
            continue
    return max(found, default=None)
