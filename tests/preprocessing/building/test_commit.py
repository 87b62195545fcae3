from collections.abc import Callable
from typing import Any

import pytest

from infra.store import MemoryStore
from preprocessing.building import commit
from preprocessing.building.commit import check_rejects, commit_dataset, rejects_table
from preprocessing.building.render import render_shard
from preprocessing.dataset.manifest import MANIFEST, Reject, open_dataset
from preprocessing.errors import ManifestError, TooManyRejects


def rejects(count: int) -> list[Reject]:
    return [
        Reject(
            split="train",
            sample_id=i,
            archive="train.tar",
            member=f"{i}.JPEG",
            start=0,
            size_bytes=1,
            reason="not an image",
            first_bytes="00",
        )
        for i in range(count)
    ]


def test_as_many_rejects_as_allowed_pass() -> None:
    check_rejects(rejects(3), 3)


def test_each_reject_is_named_with_reason_and_the_way_out() -> None:
    with pytest.raises(TooManyRejects) as caught:
        check_rejects(rejects(3), 2)
    assert all(f"train.tar: {i}.JPEG: not an image" in caught.value.problem for i in range(3))
    assert "--set prepare.max_rejects=3" in caught.value.remedy


def test_at_most_ten_are_named() -> None:
    with pytest.raises(TooManyRejects, match="and 5 more") as caught:
        check_rejects(rejects(15), 0)
    assert caught.value.problem.count("JPEG") == 10


def test_of_some_only_no_sum_is_named() -> None:
    with pytest.raises(TooManyRejects, match="at least 3 images") as caught:
        check_rejects(rejects(3), 2, listed_in="x/y", are_all=False)
    assert caught.value.problem.endswith("\n  listed in x/y")
    assert "max_rejects=" not in caught.value.remedy


def test_a_table_without_rejects_has_columns() -> None:
    assert rejects_table([]).column_names == list(Reject.model_fields)


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
    theirs = built.manifest.model_copy(update={"statistics": others})
    assert theirs.fingerprint != built.manifest.fingerprint
    store.write(MANIFEST, theirs.to_bytes())
    with pytest.raises(ManifestError, match="committed other bytes under the same key"):
        commit_dataset(built.job, built.plan, receipts, name="tiny", key="0" * 64, max_rejects=0)
    assert store.read(MANIFEST) == theirs.to_bytes()
