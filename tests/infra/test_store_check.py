from pathlib import Path

import pytest
from s3_servers import FaultyServer

from infra.errors import StoreError
from infra.store import FolderStore
from infra.store.check import check_store, open_workspace, refuse_unless_kept
from infra.store.s3 import S3Store


def test_the_real_store_keeps_every_promise(s3_store: S3Store) -> None:
    findings = check_store(s3_store)
    assert len(findings) == 8
    refuse_unless_kept(s3_store, findings)
    assert list(s3_store.list()) == []


def test_a_directory_keeps_every_promise_and_is_left_clean(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    refuse_unless_kept(store, check_store(store))
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_conditional_put_is_refused_by_name(
    faulty_store: S3Store, faulty_s3: FaultyServer
) -> None:
    faulty_s3.add_fault("ignore-conditions")
    broken = {finding.promise for finding in check_store(faulty_store, thorough=False)
              if finding.problem}  # fmt: skip
    assert broken == {"conditional put", "one winner of a conditional put"}
    with pytest.raises(StoreError, match="lacks conditional put"):
        open_workspace(faulty_store)


def test_a_known_workspace_whose_store_changed_is_refused(
    faulty_store: S3Store, faulty_s3: FaultyServer
) -> None:
    open_workspace(faulty_store)
    faulty_s3.add_fault("ignore-conditions")
    with pytest.raises(StoreError, match="lacks conditional put"):
        open_workspace(faulty_store)


def test_a_copied_workspace_is_checked_at_its_new_place(faulty_store: S3Store) -> None:
    old, new = faulty_store.child("old"), faulty_store.child("new")
    open_workspace(old)
    new.write("workspace.json", old.read("workspace.json"))
    open_workspace(new)
    assert old.read("workspace.json") != new.read("workspace.json")
