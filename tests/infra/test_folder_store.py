import errno
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import RecipeError, StoreError
from infra.store import FolderStore, open_store
from infra.store.folder import ASIDE


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "/etc/passwd"])
def test_a_key_that_leads_out_of_the_store_is_refused(tmp_path: Path, key: str) -> None:
    store = FolderStore(tmp_path / "store")
    for access in (store.read, store.stat, store.delete, store.child):
        with pytest.raises(ValueError, match="below the store"):
            access(key)
    for write in (store.write, store.create):
        with pytest.raises(ValueError, match="below the store"):
            write(key, b"")


def test_a_place_that_cannot_be_written_is_named_with_a_remedy(tmp_path: Path) -> None:
    # A file where the folder should be: refused to root too, unlike missing permissions.
    (tmp_path / "file").write_bytes(b"")
    store = FolderStore(tmp_path / "file" / "store")
    with pytest.raises(StoreError, match="cannot write a/b") as caught:
        store.write("a/b", b"")
    assert "writable" in caught.value.remedy
    with pytest.raises(StoreError, match="cannot write a/b"):
        store.create("a/b", b"")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_write_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        FolderStore(tmp_path).write("a", b"")
    tmp_path.chmod(0o700)


def test_a_writer_that_is_killed_leaves_no_object(tmp_path: Path) -> None:
    script = """
import os, pathlib, signal, sys
from infra.store import FolderStore
with FolderStore(pathlib.Path(sys.argv[1])).open_output("a") as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name.startswith(ASIDE) for path in tmp_path.iterdir()] == [True]
    store = FolderStore(tmp_path)
    assert list(store.list()) == []
    assert store.create("a", b"whole")


def test_a_store_crosses_processes_and_opens_by_its_uri(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "a b")
    store.write("x", b"1")
    assert pickle.loads(pickle.dumps(store)).read("x") == b"1"
    assert open_store(store.uri).read("x") == b"1"
    assert open_store((tmp_path / "a b").as_uri()).read("x") == b"1"
    with pytest.raises(RecipeError, match="no store for ftp"):
        open_store("ftp://host/x")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place that refuses mkdir so")
def test_a_write_to_a_place_that_cannot_exist_is_refused() -> None:
    # mkdir there says "no such file": for a write that is no missing object.
    store = FolderStore(Path("/proc/nope/ws"))
    for write in (store.write, store.create):
        with pytest.raises(StoreError, match="cannot write a: No such file"):
            write("a", b"")
    with pytest.raises(FileNotFoundError):
        store.open_input("a")
    assert list(store.list()) == []


def test_what_vanishes_while_a_folder_is_listed_is_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path)
    for key in ("a/1", "b/1", "c"):
        store.write(key, b"")
    scandir = os.scandir

    def remove_first(path: str | Path) -> object:
        if Path(path).name == "b":
            Path(path, "1").unlink()
            Path(path).rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", remove_first)
    assert [info.key for info in store.list()] == ["a/1", "c"]


def test_a_folder_that_cannot_be_listed_is_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: str | Path) -> object:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(StoreError, match="cannot list"):
        list(FolderStore(tmp_path).list())


def test_the_home_of_nobody_is_refused() -> None:
    with pytest.raises(RecipeError, match="no such user"):
        open_store("~nosuchuser/x")


@pytest.mark.parametrize("times", [1, 2])
def test_a_stale_handle_is_read_by_a_new_one_once(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS says so of a file that another host has just replaced."""
    store, left = FolderStore(tmp_path), [times]
    store.write("a", b"0123")
    opened = Path.open

    def open_stale(path: Path, mode: str = "r") -> object:
        if left[0] > 0:
            left[0] -= 1
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return opened(path, mode)

    monkeypatch.setattr(Path, "open", open_stale)
    for read in (lambda: store.read("a"), lambda: store.read_range("a", 0, 4)):
        left[0] = times
        if times == 1:
            assert read() == b"0123"
        else:
            with pytest.raises(StoreError, match="cannot read a"):
                read()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_a_file_system_without_hard_links_is_named(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreError, match="has no hard links, which commits need") as caught:
        FolderStore(tmp_path).create("a", b"")
    assert "another disk" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []
