"""Builds that stop at any write, and at any byte of one: the next build ends as if it had not."""

import io
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
from jpeg_archives import write_archives
from small_build import build_without_ray

from infra.store import FolderStore, MemoryStore
from preprocessing.building.resume import finished_shards
from preprocessing.dataset.manifest import MANIFEST
from preprocessing.prepare import dataset_folder, dataset_key, plan_dataset, prepare_dataset
from preprocessing.settings import DatasetSettings, PrepareSettings
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.source import read_index

OPTIONS = PrepareSettings(stored_px=16, rows_per_group=2, rows_per_shard=4, max_rejects=1)
RECEIPT = re.compile(r"_build/(train|val)-\d{5}\.json")
NUM_STOPS = 100
"""Random places in the stream of all that a build writes."""


class Stopped(BaseException):
    """The process ends here, as far as the build can tell."""


@dataclass
class Fuse:
    """Burns as bytes and whole objects are written; stops the process when it has burnt down."""

    bytes_left: int | None = None
    writes_left: int | None = None
    begun: list[str] = field(default_factory=list)
    """Keys in the order in which they were written."""
    num_bytes: int = 0

    def begin(self, key: str) -> None:
        if self.writes_left == len(self.begun):
            raise Stopped(key)
        self.begun.append(key)

    def ended(self) -> list[str]:
        """Keys of the objects that were written to their end."""
        return self.begun if self.bytes_left is None else self.begun[:-1]

    def burn(self, body: Any) -> memoryview:
        """Note what is written, and return what of it still gets there."""
        view = memoryview(body).cast("B")
        if self.bytes_left is not None:
            view = view[: self.bytes_left - self.num_bytes]
        self.num_bytes += len(view)
        return view


class FusedFile:
    """Passes on what the fuse lets through."""

    def __init__(self, file: IO[bytes], fuse: Fuse) -> None:
        self._file, self._fuse = file, fuse

    def write(self, body: Any) -> int:
        view = self._fuse.burn(body)
        self._file.write(view)
        if len(view) < memoryview(body).nbytes:
            raise Stopped
        return len(view)


class FusedStore(MemoryStore):
    """What is written here, and in its children, burns the fuse."""

    fuse: Fuse

    def child(self, prefix: str) -> "FusedStore":
        child = FusedStore()
        child.__dict__.update(super().child(prefix).__dict__, fuse=self.fuse)
        return child

    def write(self, key: str, body: bytes) -> None:
        with self.open_output(key) as file:
            file.write(body)

    @contextmanager
    def open_output(self, key: str) -> Iterator[IO[bytes]]:
        self.fuse.begin(key)
        buffer = io.BytesIO()
        yield FusedFile(buffer, self.fuse)  # type: ignore[misc]
        super().write(key, buffer.getvalue())

    def create(self, key: str, body: bytes) -> bool:
        self.fuse.begin(key)
        FusedFile(io.BytesIO(), self.fuse).write(body)
        return super().create(key, body)


@dataclass
class Bench:
    """The same small build, as often as is needed."""

    index: DatasetIndex
    dataset: DatasetSettings

    def build(self, workspace: FusedStore, fuse: Fuse) -> None:
        workspace.fuse = fuse
        prepare_dataset(self.index, self.dataset, OPTIONS, workspace)

    def whole(self) -> tuple[dict[str, bytes], Fuse]:
        """What an undisturbed build writes, and the fuse that counted it."""
        workspace, fuse = FusedStore(), Fuse()
        self.build(workspace, fuse)
        return files_of(workspace), fuse

    def finished(self, workspace: FusedStore) -> set[str]:
        folder = dataset_folder(self.dataset.name, dataset_key(self.index, OPTIONS))
        plan = plan_dataset(self.index, OPTIONS)
        return set(finished_shards(workspace.child(folder), plan))

    def shards(self) -> set[str]:
        return {planned.path for planned in plan_dataset(self.index, OPTIONS)}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    build_without_ray(monkeypatch)
    archives = write_archives(tmp_path / "archives", train_per_class=7, num_val=6, bad=[5])
    dataset = DatasetSettings(name="tiny", archives=str(archives))
    return Bench(read_index(dataset, OPTIONS, FolderStore(tmp_path / "indexes")), dataset)


def files_of(store: FusedStore) -> dict[str, bytes]:
    return {info.key: store.read(info.key) for info in store.list()}


def check_stops(bench: Bench, whole: dict[str, bytes], fuses: Sequence[Fuse]) -> None:
    """Build until each fuse has burnt down, then again; the second build ends what was begun."""
    for fuse in fuses:
        workspace, again = FusedStore(), Fuse()
        with pytest.raises(Stopped):
            bench.build(workspace, fuse)
        assert not [key for key in files_of(workspace) if key.endswith(MANIFEST)]
        receipts = [key for key in fuse.ended() if RECEIPT.fullmatch(key)]
        finished = bench.finished(workspace)
        assert len(finished) == len(receipts)

        bench.build(workspace, again)
        assert files_of(workspace) == whole
        assert set(again.begun) & bench.shards() == bench.shards() - finished


def test_a_stop_before_any_write_changes_nothing(bench: Bench) -> None:
    """The boundaries of shards are among them: file, sums and receipt are a write each."""
    whole, counted = bench.whole()
    assert sum(bool(RECEIPT.fullmatch(key)) for key in counted.begun) == 6
    check_stops(bench, whole, [Fuse(writes_left=count) for count in range(len(counted.begun))])


def test_a_stop_at_any_byte_changes_nothing(bench: Bench) -> None:
    whole, counted = bench.whole()
    places = random.Random(0).sample(range(counted.num_bytes), NUM_STOPS)
    check_stops(bench, whole, [Fuse(bytes_left=place) for place in places])
