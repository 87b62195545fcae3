"""Archives that look changed are compared with the dataset that was made of them. Without Ray."""

import os
from pathlib import Path

import pytest
from jpeg_archives import TRAIN, write_archives
from small_build import build_without_ray

from infra.errors import DataError, StoreError
from infra.store import MemoryStore
from preprocessing.building import identity
from preprocessing.dataset.manifest import Manifest
from preprocessing.prepare import prepare_dataset
from preprocessing.settings import DatasetSettings, PrepareSettings
from preprocessing.sources.source import read_index

OPTIONS = PrepareSettings(stored_px=16, rows_per_group=2, rows_per_shard=8)


class Others(MemoryStore):
    """Another's dataset: since it was made nothing can be written there."""

    is_closed = False

    def child(self, prefix: str) -> "Others":
        child = Others()
        child.__dict__.update(super().child(prefix).__dict__, is_closed=self.is_closed)
        return child

    def create(self, key: str, body: bytes) -> bool:
        if self.is_closed and key.startswith("sources/"):
            raise StoreError(f"cannot write {key}: Permission denied", remedy="none")
        return super().create(key, body)


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    return write_archives(tmp_path / "archives", train_per_class=9)


def prepare(archives: Path, workspace: MemoryStore) -> tuple[Manifest, list[tuple[int, int]]]:
    dataset = DatasetSettings(archives=str(archives))
    index = read_index(dataset, OPTIONS, workspace)
    told: list[tuple[int, int]] = []

    def report(done: int, total: int, note: str = "") -> None:
        told.append((done, total))

    return prepare_dataset(index, dataset, OPTIONS, workspace, report), told


def test_a_comparison_that_cannot_be_noted_is_made_again(
    archives: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    build_without_ray(monkeypatch)
    workspace = Others()
    manifest, _ = prepare(archives, workspace)
    os.utime(archives / TRAIN, ns=(1, 1))
    workspace.is_closed = True
    for times in (1, 2):
        found, told = prepare(archives, workspace)
        assert found == manifest
        assert told[-1][0] == told[-1][1] > 0
        assert caplog.text.count("archives_look_changed") == times
        assert caplog.text.count("it will be made again: cannot write sources/") == times


@pytest.mark.parametrize("threads", [1, 4])
def test_the_first_other_member_is_named_whatever_the_threads(
    threads: int, archives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_without_ray(monkeypatch)
    monkeypatch.setattr(identity, "PIECE_ROWS", 2)
    monkeypatch.setattr(identity, "_threads", lambda _: threads)
    workspace = MemoryStore()
    prepare(archives, workspace)
    body = bytearray((archives / TRAIN).read_bytes())
    found = [at for at in range(len(body)) if body[at : at + 2] == b"\xff\xd8"]
    for at in (found[5], found[12]):
        body[at + 300] ^= 1
    (archives / TRAIN).write_bytes(body)
    with pytest.raises(DataError, match=r"'n00000010_5.JPEG' is not the one"):
        prepare(archives, workspace)
