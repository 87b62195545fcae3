from collections.abc import Callable
from typing import Any

import pytest

from infra.errors import LeaseLost
from infra.lease import Lease
from infra.store import MemoryStore
from preprocessing.building import commit
from preprocessing.building.commit import commit_dataset
from preprocessing.building.render import render_shard
from preprocessing.dataset.manifest import (
    CLASSES,
    MANIFEST,
    MEMBERS,
    REJECTS,
    STATISTICS,
    Manifest,
    open_dataset,
)
from preprocessing.errors import ManifestError

LISTS = (CLASSES, STATISTICS, MEMBERS, REJECTS)


def test_who_was_taken_over_writes_no_list(build: Callable[..., Any]) -> None:
    """Another pyarrow's would not be those that the other's manifest will name."""
    built = build(store := MemoryStore(), MemoryStore())
    store.delete(MANIFEST)
    for path in (*LISTS, "lease/0002.json"):
        store.write(path, b"theirs")
    receipts = [render_shard(built.job, planned) for planned in built.plan]
    options: dict[str, Any] = {"name": "tiny", "key": "0" * 64, "max_rejects": 0}
    with pytest.raises(LeaseLost):
        commit_dataset(built.job, built.plan, receipts, **options, lease=Lease(store, 1))
    assert {store.read(path) for path in LISTS} == {b"theirs"}
    assert store.stat(MANIFEST) is None


def test_who_comes_late_with_another_pyarrow_leaves_the_lists_as_they_are(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build(store := MemoryStore(), MemoryStore())
    before = {info.key: store.read(info.key) for info in store.list()}
    receipts = [render_shard(built.job, planned) for planned in built.plan]
    parquet_bytes = commit.parquet_bytes
    monkeypatch.setattr(commit, "parquet_bytes", lambda table: parquet_bytes(table) + b"other")
    late = commit_dataset(built.job, built.plan, receipts, name="tiny", key="0" * 64, max_rejects=0)
    assert late == built.manifest == open_dataset(store)
    assert {info.key: store.read(info.key) for info in store.list()} == before


def test_who_comes_late_with_other_bytes_is_told_that_the_dataset_is_not_its_own(
    build: Callable[..., Any],
) -> None:
    built = build(store := MemoryStore(), MemoryStore())
    receipts = [render_shard(built.job, planned) for planned in built.plan]
    others = built.manifest.statistics.model_copy(update={"sha256": "0" * 64})
    copied = built.manifest.model_copy(update={"statistics": others})
    theirs = Manifest.model_validate_json(copied.to_bytes())  # no cached fingerprint comes along
    assert theirs.fingerprint != built.manifest.fingerprint
    store.write(MANIFEST, theirs.to_bytes())
    with pytest.raises(ManifestError, match="committed other bytes under the same key"):
        commit_dataset(built.job, built.plan, receipts, name="tiny", key="0" * 64, max_rejects=0)
    assert store.read(MANIFEST) == theirs.to_bytes()
