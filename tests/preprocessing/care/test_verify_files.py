from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from infra.commit import write_object
from infra.errors import StoreError
from infra.parquet import parquet_bytes, read_parquet
from infra.store import MemoryStore
from preprocessing.care.verify_files import check_files, check_manifest
from preprocessing.dataset.manifest import Manifest, Split

FILES = ("classes.json", "members.parquet", "rejects.parquet", "stats.safetensors")


@pytest.fixture
def built(build: Callable[..., Any]) -> Any:
    return build(MemoryStore(), MemoryStore(), bad=[3])


def problems(built: Any, **changes: Any) -> list[tuple[str, str]]:
    manifest = built.manifest.model_copy(update=changes)
    found, _ = check_files(built.job.target, manifest)
    return [(item.path, item.problem) for item in found]


def test_whole_files_have_no_problems(built: Any) -> None:
    found, classes = check_files(built.job.target, built.manifest)
    assert (found, classes) == ([], built.job.classes)


@pytest.mark.parametrize("path", FILES)
def test_damage_of_each_is_found_and_the_others_are_looked_at(built: Any, path: str) -> None:
    store = built.job.target
    body = store.read(path)
    for damaged in (body[:-1], body[:9] + bytes([body[9] ^ 1]) + body[10:], None):
        if damaged is None:
            store.delete(path)
        else:
            store.write(path, damaged)
        found, classes = check_files(store, built.manifest)
        assert [(item.path, item.is_damage) for item in found] == [(path, True)]
        assert (classes is None) == (path == "classes.json")


def test_all_that_are_damaged_are_named(built: Any) -> None:
    for path in FILES:
        built.job.target.delete(path)
    assert sorted(problems(built)) == [(path, "is missing") for path in FILES]


def test_files_that_contradict_the_manifest_are_named(built: Any) -> None:
    assert problems(built, num_classes=3) == [
        ("classes.json", "has 2 classes, the manifest says 3"),
        ("stats.safetensors", "counts 2 classes, there are 3"),
    ]
    assert problems(built, height_px=17) == [
        ("stats.safetensors", "its mean image is (16, 16, 3), not (17, 16, 3)")
    ]
    others = built.manifest.train.shards[1:]
    fewer = Split(shards=others)
    assert ("stats.safetensors", f"is of 9 images, train has {fewer.count}") in problems(
        built, train=fewer
    )


def test_members_that_are_not_the_planned_ones_are_named(built: Any) -> None:
    table = read_parquet(built.job.target.read("members.parquet"))
    twice = pa.concat_tables([table.slice(0, 1), table.slice(0, len(table) - 1)])
    item = write_object(built.job.target, "members.parquet", parquet_bytes(twice))
    text = "does not list the samples 0 to {} of {}, each once"
    assert problems(built, members=item) == [
        ("members.parquet", text.format(9, "train")),
        ("members.parquet", text.format(4, "val")),
    ]


def test_rejects_that_are_not_the_holes_are_named(built: Any) -> None:
    shards = [shard.model_copy(update={"holes": ()}) for shard in built.manifest.train.shards]
    (hole,) = [hole for shard in built.manifest.train.shards for hole in shard.holes]
    found = problems(built, train=Split(shards=tuple(shards)))
    assert (
        "rejects.parquet",
        f"disagrees with the holes of train: sample {hole} is only in one of the two",
    ) in found


def test_bytes_that_mean_nothing_are_named_though_the_digest_is_theirs(built: Any) -> None:
    store = built.job.target
    names = {"classes.json": "classes", "members.parquet": "members"}
    names |= {"rejects.parquet": "rejects", "stats.safetensors": "statistics"}
    assert set(names) == set(FILES)
    for path, name in names.items():
        whole = store.read(path)
        item = write_object(store, path, b"{} nothing")
        ((found, problem),) = [p for p in problems(built, **{name: item}) if p[0] == path]
        assert problem.startswith("cannot be read: ")
        store.write(found, whole)


class Away(MemoryStore):
    """Can be read in pieces, and not whole."""

    def open_input(self, key: str) -> pa.NativeFile:
        return pa.BufferReader(super().read(key))

    def read(self, key: str) -> bytes:
        raise StoreError(f"{key} does not answer", remedy="wait")


def test_a_store_that_stays_away_is_no_problem_of_the_dataset(build: Callable[..., Any]) -> None:
    built = build(store := MemoryStore(), MemoryStore())
    away = Away()
    for info in store.list():
        away.write(info.key, store.read(info.key))
    with pytest.raises(StoreError, match=r"classes\.json does not answer"):
        check_files(away, built.manifest)


def test_a_manifest_adds_up_or_is_named(built: Any) -> None:
    manifest: Manifest = built.manifest
    assert check_manifest(manifest) == []
    gap = Split(shards=manifest.train.shards[1:])
    (first, *_) = check_manifest(manifest.model_copy(update={"train": gap}))
    assert first.problem == f"{gap.shards[0].path} begins with sample 4, 0 would be next"
    (found,) = check_manifest(manifest.model_copy(update={"num_rejects": 2}))
    assert found.problem == "its shards have 1 holes, it names 2 rejects"
    assert (found.path, found.is_damage) == ("manifest.json", False)
