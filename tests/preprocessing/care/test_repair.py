"""Whole datasets over Ray: all damage is found, and mended to the byte or not at all."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from infra.errors import DataError, ObjectCorrupt
from infra.lease import Lease
from infra.progress import no_progress
from infra.store import FolderStore, MemoryStore
from preprocessing.building.plan import plan_split
from preprocessing.care import repair as care
from preprocessing.care.repair import ASIDE, Repair, WantedShard, repair_objects, repair_shard
from preprocessing.care.verify import Check, Verification, check_shard, verify_dataset
from preprocessing.dataset.manifest import Manifest
from preprocessing.errors import ManifestError
from preprocessing.settings import PrepareSettings

Build = Callable[..., Any]

LISTS = ("members.parquet", "rejects.parquet", "stats.safetensors")
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


def files_of(store: FolderStore) -> dict[str, str]:
    return {info.key: hashlib.sha256(store.read(info.key)).hexdigest() for info in store.list()}


def versions_of(store: FolderStore) -> dict[str, str]:
    """Changes with every write."""
    return {info.key: info.version for info in store.list()}


def repair(built: Any, damaged: set[str], **changes: Any) -> None:
    manifest: Manifest = built.manifest.model_copy(update=changes)
    run_repair(built, manifest, damaged)


def run_repair(built: Any, manifest: Manifest, damaged: set[str], lease: int = 1) -> None:
    repair_objects(
        built.job,
        built.plan,
        manifest,
        damaged,
        parallelism=2,
        progress=no_progress,
        lease=Lease(built.job.target, lease),
    )


def verify(built: Any) -> Verification:
    return verify_dataset(built.job.target, built.manifest)


@pytest.fixture
def built(build: Build, workspace: FolderStore) -> Any:
    return build(workspace.child("dataset"), workspace.child("source"), bad=[3])


def test_sixty_shards_damaged_in_three_ways_are_found_and_mended(
    build: Build, workspace: FolderStore
) -> None:
    options = PrepareSettings(stored_px=16, rows_per_group=2, rows_per_shard=2)
    built = build(
        workspace.child("dataset"), workspace.child("source"), num_train=80, options=options
    )
    store, places = built.job.target, random.Random(11)
    whole = files_of(store)
    assert verify(built).problems == ()
    shards = [*built.manifest.train.shards, *built.manifest.val.shards]
    assert len(shards) == 60
    for number, shard in enumerate(shards):
        body = bytearray(store.read(shard.path))
        at = places.randrange(len(body))
        match number % 3:
            case 0:
                body[at] ^= 1 << places.randrange(8)
                store.write(shard.path, bytes(body))
            case 1:
                store.write(shard.path, bytes(body[:at]))
            case 2:
                store.delete(shard.path)

    reports: list[tuple[int, int]] = []
    found = verify_dataset(
        store, built.manifest, progress=lambda done, total: reports.append((done, total))
    )
    assert [item.path for item in found.problems] == sorted(shard.path for shard in shards)
    assert (found.num_shards, found.num_rows) == (60, 120)
    assert reports[0] == (0, 120)
    assert reports[-1] == (120, 120)

    repair(built, {item.path for item in found.problems})
    assert files_of(store) == whole
    assert verify(built).problems == ()


def test_each_kind_of_damage_in_each_of_sixty_shards_is_mended(build: Build) -> None:
    options = PrepareSettings(stored_px=16, rows_per_group=2, rows_per_shard=2)
    built = build(MemoryStore(), MemoryStore(), num_train=80, options=options)
    store, places = built.job.target, random.Random(4)
    aside = Repair(replace(built.job, target=store.child(ASIDE)), store)
    check = Check(store=store, manifest=built.manifest, classes=built.job.classes, deep=False)
    shards = [*built.manifest.train.shards, *built.manifest.val.shards]
    for planned, shard in zip(built.plan, shards, strict=True):
        whole = store.read(shard.path)
        at = places.randrange(len(whole))
        flipped = whole[:at] + bytes([whole[at] ^ 1 << places.randrange(8)]) + whole[at + 1 :]
        for damaged in (flipped, whole[:at], None):
            store.delete(shard.path)
            if damaged is not None:
                store.write(shard.path, damaged)
            assert [problem.is_damage for problem in check_shard(check, shard).problems] == [True]
            assert repair_shard(aside, WantedShard(planned, shard, replaces=True)).is_same
            assert store.read(shard.path) == whole
            assert check_shard(check, shard).problems == ()


def test_only_what_is_damaged_is_written(built: Any) -> None:
    store = built.job.target
    path = built.manifest.train.shards[1].path
    store.write(path, b"damaged")
    before = versions_of(store)
    repair(built, {path})
    after = versions_of(store)
    assert {key for key in after if after[key] != before.get(key)} == {path}
    assert set(after) == set(before)


@pytest.mark.parametrize("path", [*LISTS, "classes.json"])
def test_a_list_is_made_anew_from_what_was_kept(built: Any, path: str) -> None:
    store = built.job.target
    whole = files_of(store)
    store.write(path, b"damaged")
    built.job.source.delete("a.tar")  # so nothing can be rendered
    repair(built, {path})
    assert files_of(store) == whole


def test_lists_are_rendered_anew_where_nothing_was_kept(built: Any) -> None:
    store = built.job.target
    whole = {key: body for key, body in files_of(store).items() if not key.startswith("_build/")}
    for info in list(store.list("_build/")):
        store.delete(info.key)
    for path in LISTS:
        store.delete(path)
    shards = {key: version for key, version in versions_of(store).items() if "part-" in key}
    repair(built, set(LISTS))
    assert files_of(store) == whole
    assert shards.items() <= versions_of(store).items()


def test_damaged_sums_are_not_built_on(built: Any) -> None:
    store = built.job.target
    whole = files_of(store)
    store.write("_build/train-00000.safetensors", b"damaged")
    store.delete("stats.safetensors")
    repair(built, {"stats.safetensors"})
    whole["_build/train-00000.safetensors"] = hashlib.sha256(b"damaged").hexdigest()
    assert files_of(store) == whole


@pytest.mark.parametrize(
    ("digest", "pixels"),
    [
        (None, "the pixels agree, only their encoding differs"),
        ("0" * 32, "the pixels differ too"),
        ("", "whether the pixels agree is not known"),
    ],
)
def test_other_bytes_replace_nothing_and_the_error_tells_of_the_pixels(
    built: Any, digest: str | None, pixels: str
) -> None:
    store, (first, *others) = built.job.target, built.manifest.train.shards
    store.write(first.path, b"damaged")
    before = versions_of(store)
    # As another encoder would: the same pixels, other bytes.
    options = built.job.options.model_copy(update={"quality": 80})
    built = replace(built, job=replace(built.job, options=options))
    changes = {} if digest is None else {"pixels_xxh3": digest or None}
    train = built.manifest.train.model_copy(
        update={"shards": (first.model_copy(update=changes), *others)}
    )
    with pytest.raises(ManifestError, match="was not replaced") as caught:
        repair(built, {first.path}, train=train, made_with={"pillow": "1.0"})
    assert first.path in caught.value.problem
    assert pixels in caught.value.problem
    assert "pillow 1.0, here " in caught.value.problem
    assert versions_of(store) == before


@pytest.mark.parametrize("shard", [0, 1])
def test_an_archive_that_rotted_in_silence_is_named_not_the_libraries(
    built: Any, shard: int
) -> None:
    store, source = built.job.target, built.job.source
    path = built.manifest.train.shards[shard].path
    member = list(built.plan[shard].members)[1]
    body = source.read(member.archive)
    at = member.start + member.size_bytes - 20  # of the pixels
    source.write(member.archive, body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
    store.write(path, b"damaged")
    with pytest.raises(DataError, match=f"a.tar: member '{member.name}' is not the one") as caught:
        repair(built, {path})
    assert "restore the archive" in caught.value.remedy
    source.write(member.archive, body)
    repair(built, {path})
    assert verify(built).problems == ()


def test_with_the_same_libraries_the_rest_is_mended_all_the_same(built: Any) -> None:
    store, (first, second, *_) = built.job.target, built.manifest.train.shards
    whole = files_of(store)
    for shard in (first, second):
        store.write(shard.path, b"damaged")
    wrong = first.model_copy(update={"sha256": "0" * 64})
    train = built.manifest.train.model_copy(
        update={"shards": (wrong, *built.manifest.train.shards[1:])}
    )
    with pytest.raises(ManifestError, match="the versions it was made with"):
        repair(built, {first.path, second.path}, train=train)
    whole[first.path] = hashlib.sha256(b"damaged").hexdigest()
    assert files_of(store) == whole


def test_lists_of_other_bytes_are_not_replaced(built: Any) -> None:
    store = built.job.target
    for path in (*LISTS, "classes.json"):
        store.write(path, b"damaged")
    before = versions_of(store)
    for path, name in (("classes.json", "classes"), ("stats.safetensors", "statistics")):
        item = getattr(built.manifest, name).model_copy(update={"sha256": "0" * 64})
        with pytest.raises(ManifestError, match=f"{path}: made anew"):
            repair(built, {path}, **{name: item})
    assert versions_of(store) == before


def test_a_manifest_of_other_shards_than_planned_is_refused(built: Any) -> None:
    members = built.plan[0].members
    other = plan_split(members, "train", seed=0, rows_per_shard=1)
    with pytest.raises(ManifestError, match="other shards than it was made with"):
        run_repair(replace(built, plan=other), built.manifest, set())


def test_what_a_killed_repair_left_is_not_taken_for_done(built: Any) -> None:
    store = built.job.target
    whole = files_of(store)
    path = built.manifest.train.shards[0].path
    store.write(path, b"damaged")
    for left in (path, "_build/train-00000.json", "manifest.json"):
        for number in ("", "0001/", "0007/"):
            store.write(f"_build/repair/{number}{left}", b"half")
    repair(built, {path})
    assert files_of(store) == whole


def test_sums_damaged_during_a_repair_are_rendered_by_the_next(
    built: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = built.job.target
    whole = files_of(store)
    store.delete("stats.safetensors")
    kept = care._kept

    def damage_then(*arguments: Any) -> Any:
        found = kept(*arguments)
        store.write("_build/train-00000.safetensors", b"damaged")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(care, "_kept", damage_then)
        with pytest.raises(ObjectCorrupt, match="train-00000") as caught:
            repair(built, {"stats.safetensors"})
    assert "run the same command again" in caught.value.remedy
    repair(built, {"stats.safetensors"})
    assert files_of(store)["stats.safetensors"] == whole["stats.safetensors"]


def test_who_was_taken_over_leaves_his_successors_files_alone(
    built: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He stood still while he rendered; it is over when he goes on."""
    store = built.job.target
    theirs = f"{ASIDE}/0002/train/part-00000-of-00003.parquet"

    def be_taken_over(*_: object, **__: object) -> None:
        store.write(theirs, b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(care, "_render", be_taken_over)
    with pytest.raises(KeyboardInterrupt):
        repair(built, {built.manifest.train.shards[0].path})
    assert store.read(theirs) == b"half"
