from pathlib import Path

import pytest
from jpeg_archives import TRAIN, cut, make_tar, write_archives

from infra.errors import ObjectCorrupt
from infra.store import FolderStore
from preprocessing.archives import find_archives
from preprocessing.errors import ArchiveCorrupt
from preprocessing.index import archive_index


def test_an_index_is_kept_while_size_and_version_hold(
    tmp_path: Path, workspace: FolderStore
) -> None:
    store = FolderStore(write_archives(tmp_path / "archives"))
    train = find_archives(store)[0]
    first = archive_index(workspace, store, train, nested=True)
    (tmp_path / "archives" / TRAIN).write_bytes(b"never read again")
    assert archive_index(workspace, store, train, nested=True).equals(first)
    with pytest.raises(ArchiveCorrupt):
        archive_index(workspace, store, find_archives(store)[0], nested=True)


def test_a_damaged_kept_index_is_not_believed(tmp_path: Path, workspace: FolderStore) -> None:
    store = FolderStore(write_archives(tmp_path / "archives"))
    train = find_archives(store)[0]
    archive_index(workspace, store, train, nested=True)
    (table,) = Path(workspace.uri).glob("indexes/*/index.parquet")
    table.write_bytes(b"x" + table.read_bytes()[1:])
    with pytest.raises(ObjectCorrupt):
        archive_index(workspace, store, train, nested=True)


def test_a_cut_inner_tar_is_named(tmp_path: Path, workspace: FolderStore) -> None:
    inner = make_tar([("n00000010_0.JPEG", b"x" * 5000)])
    (tmp_path / TRAIN).write_bytes(make_tar([("n00000010.tar", inner[:3000])]))
    store = FolderStore(tmp_path)
    info = store.stat(TRAIN)
    assert info is not None
    archives = FolderStore(write_archives(tmp_path / "whole"))
    source = find_archives(archives)[0].model_copy(update={"size_bytes": info.size_bytes})
    with pytest.raises(ArchiveCorrupt, match=r"n00000010.tar: member 'n00000010_0.JPEG' ends at"):
        archive_index(workspace, store, source, nested=True)


def test_a_cut_train_archive_is_refused(tmp_path: Path, workspace: FolderStore) -> None:
    path = write_archives(tmp_path) / TRAIN
    cut(path, path.stat().st_size * 2 // 3)
    store = FolderStore(tmp_path)
    with pytest.raises(ArchiveCorrupt, match="ends at byte"):
        archive_index(workspace, store, find_archives(store)[0], nested=True)


def test_images_where_tars_should_be_are_refused(tmp_path: Path, workspace: FolderStore) -> None:
    store = FolderStore(write_archives(tmp_path))
    with pytest.raises(ArchiveCorrupt, match="is no tar of a class"):
        archive_index(workspace, store, find_archives(store)[1], nested=True)
