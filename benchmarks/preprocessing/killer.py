"""Kills a build at random moments: the command, then a Ray worker below it, and so on in turn."""

import random
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Final

import psutil

from benchmarks.preprocessing.builds import (
    Build,
    differing,
    finish,
    finished_shards,
    product_digests,
)
from infra.commit import Frozen
from preprocessing.dataset.manifest import read_manifest

LOOK_S: Final = 0.05
RENDERS: Final = "ray::render_in_task"
"""How Ray titles a process while it renders."""


class Quiet(Frozen):
    """A build that nothing disturbed."""

    elapsed_s: float
    first_shard_s: float
    """From the start of the command."""
    shards: int
    workers: int

    def shard_s(self, workers: int) -> float:
        """Return the seconds between two finished shards, about, at a number of workers."""
        between_s = (self.elapsed_s - self.first_shard_s) / max(1, self.shards - 1)
        return between_s * self.workers / workers


class Outcome(Frozen):
    """A build that was killed, and what came of it."""

    workers: int
    driver_kills: int
    worker_kills: int
    late_kills: int
    """Of these, kills that met a build which was done: they show nothing."""
    starts: int
    elapsed_s: float
    files: int
    differing: tuple[str, ...]
    """Files that are not those of the quiet build; should be none."""
    rewritten: tuple[str, ...]
    """Shards that were finished at a kill and are another file at the end; should be none.

    In a directory: S3 shows no more than that the bytes are the same.
    """


def build_quietly(build: Build) -> Quiet:
    """Build once, undisturbed, and look how it goes."""
    started_s = time.monotonic()
    process, first_shard_s = build.start(), None
    while process.poll() is None:
        if first_shard_s is None and finished_shards(build.dataset()):
            first_shard_s = time.monotonic() - started_s
        time.sleep(LOOK_S)
    finish(process)
    elapsed_s = time.monotonic() - started_s
    return Quiet(
        elapsed_s=elapsed_s,
        first_shard_s=first_shard_s or elapsed_s,
        shards=len(finished_shards(build.dataset())),
        workers=build.workers,
    )


def build_under_kills(
    build: Build, quiet: Quiet, expected: Mapping[str, str], *, kills: int, seed: int
) -> Outcome:
    """Build with so many kills, and compare with the digests of the quiet build's files."""
    started_s = time.monotonic()
    killer = _Killer(build, quiet, kills, seed)
    killer.strike_all()
    elapsed_s = time.monotonic() - started_s
    dataset = build.dataset()
    if dataset is None:
        raise RuntimeError(f"{build.workspace} holds no dataset after a build that ended well")
    found, versions = product_digests(dataset), finished_shards(dataset)
    return Outcome(
        workers=build.workers,
        driver_kills=killer.driver_kills,
        worker_kills=killer.worker_kills,
        late_kills=killer.late_kills,
        starts=killer.starts,
        elapsed_s=elapsed_s,
        files=len(found),
        differing=tuple(differing(found, expected)),
        rewritten=tuple(
            path for path, version in sorted(killer.finished.items()) if versions[path] != version
        ),
    )


class _Killer:
    """Chooses moments and victims, and strikes."""

    def __init__(self, build: Build, quiet: Quiet, kills: int, seed: int) -> None:
        self._build, self._quiet, self._kills = build, quiet, kills
        self._rng = random.Random(f"{seed}/{build.workers}")
        self._process = build.start()
        self.starts = 1
        self.driver_kills = self.worker_kills = self.late_kills = 0
        self.finished: dict[str, str] = {}
        """Versions of the shards that were finished at the last kill that left them so."""

    def strike_all(self) -> None:
        """Strike as often as was asked for, then let the build finish."""
        for number in range(self._kills):
            wants_worker = number % 2 == 1
            self._wait(wants_worker)
            self.finished = finished_shards(self._build.dataset()) | self.finished
            self.late_kills += self._is_done()
            if not (wants_worker and self._kill_a_worker()):
                self._kill_the_driver()
        finish(self._process)

    def _wait(self, wants_worker: bool) -> None:
        """Wait for a random moment; enough work is left for the kills that follow."""
        shards, struck = self._quiet.shards, self.driver_kills + self.worker_kills
        shard_s = self._quiet.shard_s(self._build.workers)
        pause_s = self._rng.uniform(
            0, 2 * self._shards_left() / (self._kills - struck + 1) * shard_s
        )
        if self._process.poll() is not None:  # workers that kept dying end a build in good order
            self._restart()
        if wants_worker:
            self._wait_for_renderers()
        elif not self._is_rendering():
            # So some die as they start, index, or check what is finished.
            pause_s += self._quiet.first_shard_s * self._rng.uniform(0.2, 1)
        until_s = time.monotonic() + pause_s
        while time.monotonic() < until_s and self._process.poll() is None:
            if shards - self._shards_left() > shards * (struck + 1) / (self._kills + 1):
                time.sleep(self._rng.uniform(0, min(shard_s, 1)))
                return
            time.sleep(LOOK_S)

    def _wait_for_renderers(self) -> None:
        while self._process.poll() is None and not self._is_rendering():
            time.sleep(LOOK_S)

    def _kill_the_driver(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()
        self.driver_kills += 1
        self._restart()

    def _kill_a_worker(self) -> bool:
        """Kill a process that renders; False when the build ended before there was one."""
        self._wait_for_renderers()
        found = list(self._renderers())
        if found:
            self._rng.choice(found).kill()
            self.worker_kills += 1
        return bool(found)

    def _restart(self) -> None:
        self._process: subprocess.Popen[str] = self._build.start()
        self.starts += 1

    def _is_rendering(self) -> bool:
        return next(self._renderers(), None) is not None

    def _renderers(self) -> Iterator[psutil.Process]:
        try:
            for child in psutil.Process(self._process.pid).children(recursive=True):
                if " ".join(child.cmdline()).startswith(RENDERS):
                    yield child
        except psutil.NoSuchProcess:
            return

    def _shards_left(self) -> int:
        return self._quiet.shards - len(finished_shards(self._build.dataset()))

    def _is_done(self) -> bool:
        dataset = self._build.dataset()
        return dataset is not None and read_manifest(dataset) is not None
