"""What killed writers leave, in a directory and in S3."""

from pathlib import Path

from infra.store import FolderStore, MemoryStore
from infra.store.s3 import S3Store
from infra.store.s3_upload import PART_BYTES, MultipartUpload
from infra.store.unfinished import list_unfinished, remove_unfinished


def test_files_aside_are_told_from_all_others(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    with store.open_output("a/b/object") as file:
        file.write(b"12345")
        file.flush()
        for name in (".writing-notes", ".writing-0123456789abcdef0", "x.writing-0123456789abcdef"):
            (tmp_path / "a" / name).write_bytes(b"")
        (tmp_path / "a" / ".writing-0123456789abcdef").symlink_to("b")
        (tmp_path / ".writing-0123456789abcdef").mkdir()
        (item,) = list_unfinished(store, "a/")
        path = tmp_path / item.key
        assert path.parent == tmp_path / "a" / "b"
        assert (item.size_bytes, item.since_s) == (5, path.stat().st_mtime)
        assert list_unfinished(store, "") == [item]
    assert list_unfinished(store, "") == []
    assert list_unfinished(store, "nowhere/") == []


def test_a_file_aside_is_removed_once(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    (tmp_path / ".writing-0123456789abcdef").write_bytes(b"")
    (item,) = list_unfinished(store, "")
    remove_unfinished(store, item)
    remove_unfinished(store, item)
    assert list(tmp_path.iterdir()) == []


def test_memory_forgets_by_itself() -> None:
    assert list_unfinished(MemoryStore(), "") == []


def test_uploads_are_listed_with_what_they_hold_and_aborted(s3_store: S3Store) -> None:
    for key in ("a/one", "a/two", "b/three"):
        name = f"{s3_store.prefix}/{key}"
        upload = MultipartUpload(s3_store.bucket, name, s3_store.uri, s3_store.policy)
        upload.write(bytes(PART_BYTES + 1))
        upload._in_flight[0].result()  # killed when a part has arrived
    one, two = list_unfinished(s3_store, "a/")
    assert [(item.key, item.size_bytes) for item in (one, two)] == [
        ("a/one", PART_BYTES),
        ("a/two", PART_BYTES),
    ]
    assert one.since_s > 1e9
    remove_unfinished(s3_store, one)
    remove_unfinished(s3_store, one)  # it knows none of it any more
    assert list_unfinished(s3_store.child("a"), "")[0].key == "two"
    assert [item.key for item in list_unfinished(s3_store, "")] == ["a/two", "b/three"]
