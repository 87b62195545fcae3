import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infra.canonical import canonical_json
from infra.claims import Claim
from infra.errors import StoreError
from infra.lease import LeaseTimings, hold_lease
from infra.process_identity import this_process
from infra.store import FolderStore, ObjectStore
from infra.store.s3 import S3Store
from infra.store.s3_upload import PART_BYTES, MultipartUpload
from preprocessing.building.resume import ENVIRONMENT
from preprocessing.care.clean import QUIET_S, Cleaning, clean_workspace, leftovers_of_dataset
from preprocessing.care.verify_files import check_files

Build = Callable[..., Any]

QUICK = LeaseTimings(beat_s=0.05, stale_s=0.5, poll_s=0.02)
KEY = "0123456789abcdef"
DONE, HALF = f"datasets/tiny-{KEY}", f"datasets/half-{KEY[::-1]}"
ASIDE = f".writing-{KEY}"

STRANGERS = (
    "notes.txt",
    ".writing-notes",
    ".writing-0123",
    "mlflow.db",
    f"mlartifacts/1/{ASIDE}",
    f"strange/{ASIDE}",
    f"{HALF}/README.md",
    f"{HALF}/train/part-00000-of-00001.parquet.bak",
    f"{HALF}/train/mine/part-00000-of-00001.parquet",
    f"{HALF}/_build/notes.json",
    f"{HALF}/_build/repair/mine.parquet",
    f"{HALF}/sources/mine.json",
    f"{DONE}/README.md",
    f"{DONE}/train/part-00009-of-00010.parquet",
    f"{DONE}/_build/repair/mine.parquet",
    f"datasets/tiny/{ASIDE}",
    "datasets/tiny/train/part-00000-of-00001.parquet",
    f"datasets/Half-{KEY}/train/part-00000-of-00001.parquet",
    f"datasets/{KEY}.parquet",
    f"runs/a-{KEY}/run.json",
    f"indexes/{KEY * 4}/index.json",
)
LEFT = (
    f"{HALF}/train/part-00001-of-00002.parquet",
    f"{HALF}/val/part-00000-of-00001.parquet",
    f"{HALF}/classes.json",
    f"{HALF}/stats.safetensors",
    f"{HALF}/members.parquet",
    f"{HALF}/rejects.parquet",
    f"{HALF}/sources/{KEY * 4}.json",
    f"{HALF}/_build/rejects.parquet",
    f"{HALF}/_build/compared-{KEY}.json",
    f"{HALF}/_build/train-00000.json",
    f"{HALF}/_build/train-00000.safetensors",
    f"{HALF}/{ENVIRONMENT}",
    f"{HALF}/_build/repair/train/part-00000-of-00002.parquet",
    f"{DONE}/_build/repair/train/part-00000-of-00003.parquet",
    f"{DONE}/_build/repair/_build/train-00000.safetensors",
    f"{DONE}/_build/repair/manifest.json",
    f"{DONE}/_build/repair/0012/manifest.json",
    f"{DONE}/_build/repair/0012/train/part-00000-of-00003.parquet",
)
ASIDES = (
    f"{HALF}/train/{ASIDE}",
    f"{DONE}/val/{ASIDE}",
    f"{DONE}/lease/{ASIDE}",
    f"runs/a-{KEY}/checkpoints/step-00000001-a0001/{ASIDE}",
    f"evaluations/{KEY}/{ASIDE}",
)
LOOSE = (ASIDE, f"indexes/{KEY * 4}/{ASIDE}", f"archives/drawn-{KEY}/{ASIDE}")


def put(workspace: ObjectStore, keys: tuple[str, ...]) -> None:
    """Write files as they are: a store would list none that is unfinished."""
    for key in keys:
        path = Path(workspace.uri, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")


def tree(workspace: ObjectStore) -> dict[str, bytes]:
    root = Path(workspace.uri)
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def clean(workspace: ObjectStore, later_s: float = 0.0) -> Cleaning:
    import time

    return clean_workspace(workspace, timings=QUICK, clock=lambda: time.time() + later_s)


def removed(cleaning: Cleaning) -> list[str]:
    return sorted(item.path for item in cleaning.removed)


def leave_killed(workspace: ObjectStore) -> None:
    """Leave the claim of a process that was killed while it built the half-built dataset."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        pass
    dead = this_process().model_copy(update={"pid": ended.pid, "started": "1"})
    claim = Claim(number=7, owner="another", process=dead)
    workspace.write(f"{HALF}/lease/0007.json", canonical_json(claim.model_dump()))


@pytest.fixture
def built(build: Build, workspace: FolderStore) -> Any:
    return build(workspace.child(DONE), workspace.child("source"))


def test_leftovers_go_and_strangers_stay(built: Any, workspace: FolderStore) -> None:
    put(workspace, STRANGERS)
    kept = tree(workspace)
    put(workspace, (*LEFT, *ASIDES, *LOOSE))
    leave_killed(workspace)
    cleaning = clean(workspace)
    assert removed(cleaning) == sorted((*LEFT, *ASIDES))
    assert sum(item.size_bytes for item in cleaning.removed) == 5 * len((*LEFT, *ASIDES))
    assert sorted(cleaning.kept) == sorted(LOOSE)  # somebody may be writing them
    assert removed(clean(workspace, QUIET_S + 60)) == sorted(LOOSE)
    # A lease was taken for each folder; where a dataset or a run is, its claim stays.
    after = {key: body for key, body in tree(workspace).items() if not is_claim(key)}
    assert after == kept
    assert check_files(built.job.target, built.manifest)[0] == []


def is_claim(key: str) -> bool:
    name = key.rpartition("/lease/")[2]
    return name in ("0001.json", "0001.beat")


def test_a_clean_workspace_is_left_as_it_is(built: Any, workspace: FolderStore) -> None:
    before = tree(workspace)
    assert any("/_build/train-" in key for key in before)
    assert clean(workspace) == Cleaning()
    assert tree(workspace) == before


def test_of_a_half_built_dataset_nothing_is_left(workspace: FolderStore) -> None:
    put(workspace, tuple(key for key in LEFT if key.startswith(HALF)))
    leave_killed(workspace)
    assert len(clean(workspace).removed) == 13
    assert tree(workspace) == {}
    assert not Path(workspace.uri, HALF).exists()
    assert clean(workspace) == Cleaning()


@pytest.mark.parametrize("released", [False, True], ids=["no lease", "a released lease"])
def test_a_dataset_that_is_being_copied_in_is_left_alone(
    released: bool, build: Build, workspace: FolderStore
) -> None:
    build(workspace.child(DONE), workspace.child("source"))
    if released:  # of where it was made
        with hold_lease(workspace.child(DONE)):
            pass
    workspace.delete(f"{DONE}/manifest.json")  # comes last
    for path in Path(workspace.uri, DONE).rglob("*.*"):
        os.utime(path, (1, 1))  # as `cp -a` leaves it
    before = tree(workspace)
    cleaning = clean(workspace)
    assert (cleaning.removed, list(cleaning.kept)) == ([], [DONE])
    assert "no lease tells by whom" in cleaning.kept[DONE]
    assert tree(workspace) == before
    assert clean(workspace, QUIET_S + 60).removed
    assert not Path(workspace.uri, DONE).exists()


def test_a_folder_that_refuses_is_named_and_the_rest_is_cleaned(
    built: Any, workspace: FolderStore
) -> None:
    class Refusing(FolderStore):
        def child(self, prefix: str) -> "Refusing":
            return Refusing(Path(self.uri, prefix))

        def create(self, key: str, body: bytes) -> bool:
            if HALF in self.uri:
                raise StoreError(f"{self.uri}: cannot write", remedy="ask its owner")
            return super().create(key, body)

    put(workspace, LEFT)
    leave_killed(workspace)
    cleaning = clean(Refusing(Path(workspace.uri)))
    assert cleaning.kept == {HALF: f"{workspace.uri}/{HALF}: cannot write"}
    assert {key.startswith(DONE) for key in removed(cleaning)} == {True}


def test_a_lease_alone_is_a_leftover_too(workspace: FolderStore) -> None:
    with hold_lease(workspace.child(HALF)):
        pass
    clean(workspace)
    assert not Path(workspace.uri, HALF).exists()


class Killed(BaseException):
    pass


class Mortal(FolderStore):
    """Dies at a deletion of a shard."""

    def child(self, prefix: str) -> "Mortal":
        return Mortal(Path(self.uri, prefix))

    def delete(self, key: str) -> None:
        if "part-" in key:
            raise Killed
        super().delete(key)


def test_a_kill_leaves_no_shards_without_the_word_what_made_them(workspace: FolderStore) -> None:
    put(workspace, LEFT)
    leave_killed(workspace)
    with pytest.raises(Killed):
        clean(Mortal(Path(workspace.uri)))
    assert f"{HALF}/{ENVIRONMENT}" in tree(workspace)


class TakenOver(FolderStore):
    """At the first deletion of what a build made, another process takes the lease over."""

    def child(self, prefix: str) -> "TakenOver":
        return TakenOver(Path(self.uri, prefix))

    def delete(self, key: str) -> None:
        if not key.startswith("lease/") and not Path(self.uri, "lease/0099.json").exists():
            claim = Claim(number=99, owner="another", process=this_process())
            self.write("lease/0099.json", canonical_json(claim.model_dump()))
        super().delete(key)


def test_who_was_taken_over_while_he_deletes_deletes_no_more(workspace: FolderStore) -> None:
    """He stood still, or his network was away; what is there by now is another's."""
    put(workspace, left := tuple(key for key in LEFT if key.startswith(HALF)))
    leave_killed(workspace)
    cleaning = clean(TakenOver(Path(workspace.uri)))
    assert "took this work over" in cleaning.kept[HALF]
    assert len(cleaning.removed) == 1
    assert len(set(left) & set(tree(workspace))) == len(left) - 1


@contextmanager
def another_at_work(place: ObjectStore) -> Iterator[None]:
    """Hold a lease in a thread, beating."""
    held, over = threading.Event(), threading.Event()

    def work() -> None:
        with hold_lease(place, timings=QUICK):
            held.set()
            over.wait(20)

    thread = threading.Thread(target=work)
    thread.start()
    assert held.wait(20)
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_folder_where_a_process_works_is_left_alone(built: Any, workspace: FolderStore) -> None:
    put(workspace, LEFT)
    with another_at_work(workspace.child(HALF)):
        cleaning = clean(workspace)
        assert list(cleaning.kept) == [HALF]
        assert "works on it" in cleaning.kept[HALF]
        assert {key.startswith(DONE) for key in removed(cleaning)} == {True}
    later = clean(workspace, QUIET_S + 60)
    assert set(removed(later)) == {key for key in LEFT if key.startswith(HALF)}


def test_a_dead_or_silent_owner_holds_nothing_up(workspace: FolderStore) -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        pass
    here = this_process()
    for owner in (
        here.model_copy(update={"pid": ended.pid, "started": "1"}),
        here.model_copy(update={"host": "another-host"}),
    ):
        put(workspace, left := tuple(key for key in LEFT if key.startswith(HALF)))
        claim = Claim(number=7, owner="another", process=owner)
        workspace.write(f"{HALF}/lease/0007.json", canonical_json(claim.model_dump()))
        assert set(removed(clean(workspace))) == set(left)
        assert not Path(workspace.uri, HALF).exists()


def test_who_waits_for_the_folder_gets_it(workspace: FolderStore) -> None:
    put(workspace, LEFT)
    leave_killed(workspace)
    later = f"{HALF}/lease/0009.json"

    class Overtaken(FolderStore):
        def child(self, prefix: str) -> "Overtaken":
            return Overtaken(Path(self.uri, prefix))

        def stat(self, key: str) -> Any:
            if key == "manifest.json":  # asked when our lease is released
                claim = Claim(number=9, owner="another", process=this_process())
                workspace.write(later, canonical_json(claim.model_dump()))
            return super().stat(key)

    clean(Overtaken(Path(workspace.uri)))
    assert later in tree(workspace)


def test_what_was_committed_meanwhile_stays() -> None:
    names = [key.removeprefix(f"{HALF}/") for key in LEFT if key.startswith(HALF)]
    assert sorted(leftovers_of_dataset(names)) == sorted(names)
    committed = [*names, "manifest.json"]
    assert leftovers_of_dataset(committed) == [n for n in names if n.startswith("_build/repair/")]


def test_in_s3_uploads_that_never_ended_go_too(s3_store: S3Store) -> None:
    shard, stranger = f"{HALF}/train/part-00000-of-00002.parquet", "strange/part-00000.parquet"
    for key in (shard, stranger, f"{DONE}/train/part-00001-of-00002.parquet"):
        name = f"{s3_store.prefix}/{key}"
        upload = MultipartUpload(s3_store.bucket, name, s3_store.uri, s3_store.policy)
        upload.write(bytes(PART_BYTES + 1))
        upload._in_flight[0].result()  # the process is killed when a part has arrived
    s3_store.write(f"{DONE}/manifest.json", b"{}")
    s3_store.write(f"{HALF}/{ENVIRONMENT}", b"{}")
    first = clean(s3_store)
    assert removed(first) == [f"{DONE}/train/part-00001-of-00002.parquet"]
    assert list(first.kept) == [HALF]  # it may be a copy that is not through
    cleaning = clean(s3_store, QUIET_S + 60)
    assert removed(cleaning) == sorted([shard, f"{HALF}/{ENVIRONMENT}"])
    assert sum(item.size_bytes for item in cleaning.removed) == PART_BYTES + 2
    assert clean(s3_store) == Cleaning()
    assert f"{DONE}/manifest.json" in [info.key for info in s3_store.list()]
    from infra.store.unfinished import list_unfinished

    assert [item.key for item in list_unfinished(s3_store, "")] == [stranger]
