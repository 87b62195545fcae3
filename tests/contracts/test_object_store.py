"""What every store does, memory and folder alike."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from infra.store import ObjectStore


def test_an_object_is_read_back_whole_and_in_ranges(store: ObjectStore) -> None:
    store.write("a/b.bin", bytes(range(100)))
    assert store.read("a/b.bin") == bytes(range(100))
    assert store.read_range("a/b.bin", 10, 20) == bytes(range(10, 20))
    assert store.read_range("a/b.bin", 95, 120) == bytes(range(95, 100))
    assert store.read_range("a/b.bin", 100, 120) == b""
    with store.open_input("a/b.bin") as file:
        file.seek(50)
        assert file.read(3) == bytes([50, 51, 52])


def test_a_write_replaces_and_shows_in_a_listing(store: ObjectStore) -> None:
    store.write("a", b"one")
    before = store.stat("a")
    store.write("a", b"other")
    after = store.stat("a")
    assert store.read("a") == b"other"
    assert before is not None
    assert after is not None
    assert (after.key, after.size_bytes) == ("a", 5)
    assert before != after


def test_what_is_not_there_is_missing(store: ObjectStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.read("nothing")
    with pytest.raises(FileNotFoundError):
        store.read_range("nothing", 0, 1)
    assert store.stat("nothing") is None
    assert list(store.list("nothing/")) == []
    store.delete("nothing")


def test_a_deleted_object_is_gone_and_may_be_created_again(store: ObjectStore) -> None:
    assert store.create("a", b"1")
    store.delete("a")
    assert store.stat("a") is None
    assert store.create("a", b"2")
    assert store.read("a") == b"2"


def test_only_one_of_sixteen_creates_an_object(store: ObjectStore) -> None:
    start = Barrier(16)

    def create(number: int) -> bool:
        start.wait()
        return store.create("claim/0001.json", b"%d" % number)

    with ThreadPoolExecutor(16) as pool:
        created = list(pool.map(create, range(16)))
    assert created.count(True) == 1
    assert store.read("claim/0001.json") == b"%d" % created.index(True)


def test_create_leaves_what_is_there(store: ObjectStore) -> None:
    assert store.create("a", b"first")
    assert not store.create("a", b"second")
    assert not store.create("a", b"first")
    assert store.read("a") == b"first"


def test_an_output_is_invisible_until_its_block_ends(store: ObjectStore) -> None:
    with store.open_output("big/part") as file:
        file.write(b"half")
        file.flush()
        assert store.stat("big/part") is None
        assert list(store.list()) == []
        file.write(b" and half")
    assert store.read("big/part") == b"half and half"


def test_an_output_whose_block_fails_leaves_the_old_object(store: ObjectStore) -> None:
    def write_half() -> None:
        with store.open_output("a") as file:
            file.write(b"new")
            raise RuntimeError("halfway")

    store.write("a", b"old")
    with pytest.raises(RuntimeError, match="halfway"):
        write_half()
    assert store.read("a") == b"old"
    assert [info.key for info in store.list()] == ["a"]


def test_a_listing_is_sorted_by_key_and_filtered_by_prefix(store: ObjectStore) -> None:
    keys = ["b/2", "a/10", "a/9", "ab", "a.json", "a/sub/deep", "b/1"]
    for key in keys:
        store.write(key, key.encode())
    assert [info.key for info in store.list()] == sorted(keys)
    assert [info.key for info in store.list("a/")] == ["a/10", "a/9", "a/sub/deep"]
    assert [info.key for info in store.list("a/s")] == ["a/sub/deep"]
    assert [(info.key, info.size_bytes) for info in store.list("ab")] == [("ab", 2)]


def test_a_child_sees_its_prefix_and_nothing_else(store: ObjectStore) -> None:
    child = store.child("runs/one")
    child.write("x/y", b"inside")
    store.write("outside", b"")
    assert [info.key for info in child.list()] == ["x/y"]
    assert store.read("runs/one/x/y") == b"inside"
    assert child.child("x").read("y") == b"inside"
    assert child.uri.startswith(store.uri)
