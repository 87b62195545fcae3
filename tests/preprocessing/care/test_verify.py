"""One shard at a time, without Ray; all of a dataset over Ray is in test_repair.py."""

import errno
import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import ServiceError, StoreError
from infra.store import MemoryStore
from infra.store.s3 import S3Store
from preprocessing.care import verify
from preprocessing.care.repair import ASIDE, Repair, WantedShard, repair_shard
from preprocessing.care.verify import Check, check_shard, require_manifest
from preprocessing.dataset.labels import read_classes
from preprocessing.dataset.manifest import Manifest, Shard
from preprocessing.dataset.schema import open_shard_writer
from preprocessing.dataset.stored import encode_jpeg
from preprocessing.errors import ManifestError
from preprocessing.settings import PrepareSettings

Build = Callable[..., Any]

FLIPS = {
    "a flipped bit": lambda body, at: body[:at] + bytes([body[at] ^ 1 << at % 8]) + body[at + 1 :],
    "a truncation": lambda body, at: body[:at],
}
SHARDS = 60


@pytest.fixture(scope="module")
def built(build: Build) -> Any:
    """A dataset of 60 shards: 40 of train, one with a hole, and 20 of val."""
    options = PrepareSettings(stored_px=16, rows_per_group=2, rows_per_shard=4)
    return build(MemoryStore(), MemoryStore(), num_train=160, bad=[7], options=options)


def check_of(built: Any, *, deep: bool = False, **changes: Any) -> Check:
    manifest = built.manifest.model_copy(update=changes)
    classes = read_classes(built.job.target, manifest.classes)
    return Check(store=built.job.target, manifest=manifest, classes=classes, deep=deep)


def shards_of(manifest: Manifest) -> list[Shard]:
    return [*manifest.train.shards, *manifest.val.shards]


def found(check: Check, shard: Shard) -> list[str]:
    result = check_shard(check, shard)
    assert {problem.path for problem in result.problems} <= {shard.path}
    return [problem.problem for problem in result.problems]


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_dataset_has_no_problems(built: Any, deep: bool) -> None:
    shards = shards_of(built.manifest)
    assert len(shards) == SHARDS
    assert sum(len(shard.holes) for shard in shards) == 1
    assert [found(check_of(built, deep=deep), shard) for shard in shards] == [[]] * SHARDS


@pytest.mark.parametrize("kind", FLIPS)
def test_damage_anywhere_in_any_of_sixty_shards_is_found(built: Any, kind: str) -> None:
    check, store, places = check_of(built), built.job.target, random.Random(kind)
    for shard in shards_of(built.manifest):
        body = store.read(shard.path)
        for at in (0, places.randrange(len(body)), len(body) - 1):
            store.write(shard.path, FLIPS[kind](body, at))
            result = check_shard(check, shard)
            assert [problem.is_damage for problem in result.problems] == [True], (shard.path, at)
        store.write(shard.path, body)


def test_any_of_sixty_shards_that_is_gone_is_missed(built: Any) -> None:
    check, store = check_of(built), built.job.target
    for shard in shards_of(built.manifest):
        body = store.read(shard.path)
        store.delete(shard.path)
        assert found(check, shard) == ["is missing"]
        store.write(shard.path, body)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"stop": 5}, "has 4 rows, the manifest names 5"),
        ({"start": 1, "stop": 5}, "row 0 is sample 0, planned is 1"),
        ({"holes": (2,)}, "row 2 is sample 2, planned is 3"),
    ],
)
def test_rows_that_are_not_the_planned_ones_are_named(
    built: Any, changes: dict[str, Any], problem: str
) -> None:
    shard = built.manifest.train.shards[0]
    assert not shard.holes
    assert problem in found(check_of(built), shard.model_copy(update=changes))


def rewritten(built: Any, change: Callable[[list[dict[str, Any]]], None], rows: int = 2) -> Shard:
    """A shard of changed rows, with the digest of its new bytes, in a manifest that trusts it."""
    store, shard = built.job.target, built.manifest.train.shards[0]
    table = pq.read_table(pa.BufferReader(store.read(shard.path)))
    changed = table.to_pylist()
    change(changed)
    sink = pa.BufferOutputStream()
    with open_shard_writer(sink, table.schema) as writer:
        for start in range(0, len(changed), rows):
            group = pa.Table.from_pylist(changed[start : start + rows], table.schema)
            writer.write_table(group, len(group))
    body = sink.getvalue().to_pybytes()
    store.write("other.parquet", body)
    facts = {"size_bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return shard.model_copy(update={"path": "other.parquet", **facts})


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (lambda rows: None, []),
        (lambda rows: rows[1].update(label=2), ["sample 1 has label 2, there are 2 classes"]),
        (lambda rows: rows[1].update(label=-1), ["sample 1 has label -1, there are 2 classes"]),
        (
            lambda rows: rows[0].update(label=1, wnid="a"),
            ["sample 0 is 'a', its label says 'b'"],
        ),
        (lambda rows: rows[3].update(height=15), ["sample 3 is 16x15, not square of 16"]),
        (lambda rows: rows.reverse(), ["row 0 is sample 3, planned is 0"]),
        (lambda rows: rows[1].update(sample_id=0), ["row 1 is sample 0, planned is 1"]),
    ],
)
def test_rows_that_contradict_the_dataset_are_named(
    built: Any, change: Callable[[list[dict[str, Any]]], None], problems: list[str]
) -> None:
    assert found(check_of(built), rewritten(built, change)) == problems


def test_row_groups_that_are_not_full_are_named(built: Any) -> None:
    shard = rewritten(built, lambda rows: None, rows=1)
    assert found(check_of(built), shard) == [
        f"row group {group} has 1 rows, all but the last have 2" for group in range(3)
    ]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"no image", "sample 2: a stored image cannot be decoded"),
        (None, "sample 2 decodes to 8x4"),
    ],
)
def test_only_a_deep_check_decodes(built: Any, body: bytes | None, problem: str) -> None:
    image = body or encode_jpeg(np.zeros((4, 8, 3), np.uint8), 90)
    shard = rewritten(built, lambda rows: rows[2]["image"].update(bytes=image))
    assert found(check_of(built), shard) == []
    (text,) = found(check_of(built, deep=True), shard)
    assert text.startswith(problem)


def test_bytes_that_are_no_shard_are_named_though_the_digest_is_theirs(built: Any) -> None:
    shard = built.manifest.train.shards[0]
    built.job.target.write("other.parquet", body := b"PAR1 no shard")
    facts = {"size_bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    (text,) = found(check_of(built), shard.model_copy(update={"path": "other.parquet", **facts}))
    assert text.startswith("cannot be read: ")


class FailingLater(MemoryStore):
    """Gives each object's bytes once; then its disk is away."""

    def __init__(self) -> None:
        super().__init__()
        self.read_before: set[str] = set()

    def open_input(self, key: str) -> pa.NativeFile:
        file = super().open_input(key)
        if key in self.read_before:
            raise OSError(errno.EIO, "Input/output error")
        self.read_before.add(key)
        return file


def test_a_disk_that_fails_behind_whole_bytes_is_no_contradiction(build: Build) -> None:
    other = build(FailingLater(), MemoryStore())
    with pytest.raises(StoreError, match=r"train/part-.* cannot be read: .*Input/output error"):
        check_shard(check_of(other), shards_of(other.manifest)[0])


@pytest.mark.parametrize(
    "options",
    [{"shape": "keep-aspect"}, {"shape": "original"}, {"encoding": "raw"}, {"chroma": "444"}],
)
def test_every_way_of_storing_is_whole(build: Build, options: dict[str, Any]) -> None:
    settings = PrepareSettings(stored_px=16, rows_per_group=2, rows_per_shard=4, **options)
    other = build(MemoryStore(), MemoryStore(), options=settings)
    for shard in shards_of(other.manifest):
        assert found(check_of(other, deep=True), shard) == []


def test_in_s3_it_is_the_same(build: Build, s3_store: S3Store) -> None:
    other = build(s3_store, MemoryStore(), bad=[3])
    check, (first, second, *_) = check_of(other, deep=True), shards_of(other.manifest)
    for shard in shards_of(other.manifest):
        assert found(check, shard) == found(check_of(other), shard) == []
    body = s3_store.read(first.path)
    s3_store.write(first.path, body[:50] + bytes([body[50] ^ 1]) + body[51:])
    s3_store.delete(second.path)
    assert found(check, first) == ["does not have the bytes it should"]
    assert found(check, second) == ["is missing"]
    aside = replace(other.job, target=s3_store.child(ASIDE))
    for planned, shard in zip(other.plan[:2], (first, second), strict=True):
        repair_shard(Repair(aside, s3_store), WantedShard(planned, shard, replaces=True))
        assert found(check, shard) == []
    assert s3_store.read(first.path) == body


def test_a_place_without_a_manifest_is_no_dataset() -> None:
    with pytest.raises(ManifestError, match="is no dataset"):
        require_manifest(MemoryStore())


def test_checks_that_keep_dying_name_no_setting_of_a_recipe(
    built: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--verify` takes none."""

    def die(*_: object, remedy: str, **__: object) -> None:
        raise ServiceError("a check kept dying", remedy=remedy)

    monkeypatch.setattr(verify, "run_tasks", die)
    with pytest.raises(ServiceError) as caught:
        verify.verify_dataset(built.job.target, built.manifest)
    assert "prepare." not in caught.value.remedy
