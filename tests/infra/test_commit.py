from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.commit import (
    Frozen,
    StoredObject,
    check_listing,
    commit_receipt,
    parse_receipt,
    read_object,
    read_receipt,
    write_object,
)
from infra.errors import DataError, ObjectCorrupt
from infra.store import FolderStore, MemoryStore


class Note(Frozen):
    count: int


def test_what_is_written_down_is_strict_and_frozen() -> None:
    note = Note(count=1)
    with pytest.raises(ValidationError):
        note.count = 2  # type: ignore[misc]  # the point of the test
    for body in ('{"count": "1"}', '{"count": 1, "more": 2}', "{}"):
        with pytest.raises(ValidationError):
            Note.model_validate_json(body)


def test_an_object_reads_back_through_its_receipt() -> None:
    store = MemoryStore()
    stored = write_object(store, "a/b", b"body")
    assert (stored.path, stored.size_bytes) == ("a/b", 4)
    assert read_object(store, stored) == b"body"
    check_listing(store, [stored])


def test_an_object_with_other_bytes_is_found_when_it_is_read() -> None:
    store = MemoryStore()
    stored = write_object(store, "a", b"body")
    store.write("a", b"bodx")
    check_listing(store, [stored])
    with pytest.raises(ObjectCorrupt, match="bytes its receipt names"):
        read_object(store, stored)


def test_what_lies_behind_a_link_is_there(tmp_path: Path) -> None:
    store, elsewhere = FolderStore(tmp_path / "here"), FolderStore(tmp_path / "there")
    stored = write_object(store, "part/a", b"body")
    elsewhere.write("a", b"body")
    store.delete("part/a")
    (tmp_path / "here" / "part").rmdir()
    (tmp_path / "here" / "part").symlink_to(tmp_path / "there")
    check_listing(store, [stored])
    assert [info.key for info in store.list("part/")] == ["part/a"]
    elsewhere.write("a", b"body and more")
    with pytest.raises(ObjectCorrupt, match="has 13 bytes, its receipt says 4"):
        check_listing(store, [stored])


def test_a_listing_finds_a_missing_object_and_one_of_another_size() -> None:
    store = MemoryStore()
    stored = write_object(store, "a", b"body")
    store.write("a", b"body and more")
    with pytest.raises(ObjectCorrupt, match="has 13 bytes, its receipt says 4"):
        check_listing(store, [stored])
    store.delete("a")
    with pytest.raises(ObjectCorrupt, match="is missing"):
        check_listing(store, [stored])
    with pytest.raises(ObjectCorrupt, match="is missing"):
        read_object(store, stored)


def test_the_first_receipt_holds() -> None:
    store = MemoryStore()
    assert read_receipt(store, "receipt.json") is None
    assert commit_receipt(store, "receipt.json", b"ours") == b"ours"
    assert commit_receipt(store, "receipt.json", b"theirs") == b"ours"
    assert read_receipt(store, "receipt.json") == b"ours"


def test_a_digest_is_sixty_four_hex_characters() -> None:
    with pytest.raises(ValidationError):
        StoredObject(path="a", size_bytes=1, sha256="AB")


@pytest.mark.parametrize("body", [b"", b'{"count": 1', b'{"count": "1"}', b"\xff"])
def test_a_receipt_that_was_cut_is_corrupt_and_named(body: bytes) -> None:
    assert parse_receipt(Note, b'{"count": 1}', "ws/note.json") == Note(count=1)
    with pytest.raises(ObjectCorrupt, match=r"ws/note\.json cannot be read") as caught:
        parse_receipt(Note, body, "ws/note.json")
    assert "restore it from a copy" in caught.value.remedy


def test_a_place_may_have_an_error_and_a_remedy_of_its_own() -> None:
    with pytest.raises(DataError, match=r"^ws/note\.json cannot be read: [^\n]*$") as caught:
        parse_receipt(Note, b"{}", "ws/note.json", raised=DataError, remedy="write it anew")
    assert type(caught.value) is DataError
    assert caught.value.remedy == "write it anew"


def test_what_is_written_down_has_one_form() -> None:
    assert Note(count=1).to_bytes() == b'{"count":1}'


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/x", "//x", "", "."])
def test_a_receipt_names_nothing_outside_its_folder(path: str) -> None:
    body = f'{{"path": "{path}", "size_bytes": 1, "sha256": "{"0" * 64}"}}'
    with pytest.raises(ObjectCorrupt, match="receipt cannot be read"):
        parse_receipt(StoredObject, body.encode(), "the receipt")
