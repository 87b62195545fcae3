"""Whole builds over a local Ray, of a few tiny images."""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jpeg_archives import TRAIN, make_jpeg, write_archives

from infra.errors import DataError, ObjectCorrupt
from infra.store import FolderStore
from preprocessing.building.commit import commit_dataset
from preprocessing.dataset.labels import read_classes
from preprocessing.dataset.manifest import Manifest, open_dataset
from preprocessing.dataset.pixels import decode_square
from preprocessing.dataset.statistics import read_statistics
from preprocessing.errors import ManifestError, TooManyRejects
from preprocessing.prepare import (
    VERSION,
    dataset_folder,
    dataset_key,
    earlier_dataset,
    prepare_dataset,
)
from preprocessing.settings import DatasetSettings, DrawnSettings, PrepareSettings
from preprocessing.sources.source import read_index

OPTIONS: dict[str, Any] = {"stored_px": 32, "rows_per_group": 2, "rows_per_shard": 4}


def prepare(workspace: FolderStore, archives: Path, **options: Any) -> tuple[Manifest, FolderStore]:
    dataset = DatasetSettings(name="tiny", archives=str(archives))
    settings = PrepareSettings(**OPTIONS | options)
    index = read_index(dataset, settings, workspace)
    manifest = prepare_dataset(index, dataset, settings, workspace)
    return manifest, workspace.child(dataset_folder("tiny", dataset_key(index, settings)))


def files_of(store: FolderStore, but: str = "sources/") -> dict[str, str]:
    """SHA-256 of every file; which archives it was made from depends on their times."""
    return {
        info.key: hashlib.sha256(store.read(info.key)).hexdigest()
        for info in store.list()
        if not info.key.startswith((but, "_build/environment"))
    }


def test_a_key_is_pinned(tmp_path: Path, workspace: FolderStore) -> None:
    # If this changes without VERSION, old datasets are taken for what they are not.
    folder = tmp_path / "archives"
    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            path = folder / split / "cat" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"12345")
    index = read_index(DatasetSettings(folder=str(folder)), PrepareSettings(), workspace)
    assert dataset_key(index, PrepareSettings()) == PINNED_KEY


PINNED_KEY = "e1c99a4c7672cdd8b98173c610dd030dced8d613b76f5f545115d9decd68c9b2"


def test_only_what_decides_bytes_is_in_the_key(tmp_path: Path, workspace: FolderStore) -> None:
    dataset = DatasetSettings(archives=str(write_archives(tmp_path)))
    index = read_index(dataset, PrepareSettings(), workspace)
    key = dataset_key(index, PrepareSettings())
    same: list[dict[str, Any]] = [{"max_rejects": 5}, {"parallelism": 3}]
    other: list[dict[str, Any]] = [
        {"stored_px": 128},
        {"quality": 80},
        {"seed": 1},
        {"rows_per_group": 32},
        {"rows_per_shard": 64},
    ]
    assert {dataset_key(index, PrepareSettings(**options)) for options in same} == {key}
    keys = {dataset_key(index, PrepareSettings(**options)) for options in other}
    assert len(keys | {key}) == len(other) + 1
    assert dataset_key(index, PrepareSettings(), version=VERSION + 1) != key


@pytest.mark.parametrize("options", [{}, {"encoding": "raw"}, {"shape": "original"}])
def test_an_earlier_versions_dataset_is_found_by_its_key(
    tmp_path: Path, workspace: FolderStore, options: dict[str, Any]
) -> None:
    dataset = DatasetSettings(name="tiny", archives=str(write_archives(tmp_path)))
    settings = PrepareSettings(**options)
    index = read_index(dataset, settings, workspace)
    own, before = (
        dataset_folder("tiny", dataset_key(index, settings, version))
        for version in (VERSION, VERSION - 1)
    )
    workspace.child(own).write("manifest.json", b"{}")
    workspace.child(before).write("classes.json", b"{}")  # begun, not committed
    assert earlier_dataset(index, dataset, settings, workspace) is None
    workspace.child(before).write("manifest.json", b"{}")
    assert earlier_dataset(index, dataset, settings, workspace) == before
    other = PrepareSettings(**options, stored_px=128)
    # In keys of VERSION 4 stood what raw and original images leave aside.
    assert dataset_key(index, settings, 4) != dataset_key(
        index, PrepareSettings(**options, quality=50), 4
    )
    assert earlier_dataset(index, dataset, other, workspace) is None


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
class TestBuilding:
    def test_any_number_of_workers_gives_the_same_bytes(self, tmp_path: Path) -> None:
        dataset = DatasetSettings(
            name="tiny",
            archives="drawn",
            drawn=DrawnSettings(num_classes=3, train_per_class=6, val_per_class=2),
        )
        built = []
        for parallelism in (1, 2, 3):
            workspace = FolderStore(tmp_path / str(parallelism))
            settings = PrepareSettings(**OPTIONS, parallelism=parallelism)
            index = read_index(dataset, settings, workspace)
            prepare_dataset(index, dataset, settings, workspace)
            folder = dataset_folder("tiny", dataset_key(index, settings))
            built.append(files_of(workspace.child(folder)))
        assert built[0] == built[1] == built[2]
        assert sum(path.startswith("train/") for path in built[0]) == 5

    def test_a_committed_dataset_holds_every_image_once(
        self, tmp_path: Path, workspace: FolderStore
    ) -> None:
        archives = write_archives(tmp_path / "a", num_classes=3, bad=[4, 9])
        manifest, store = prepare(workspace, archives, max_rejects=2)
        assert (manifest.train.count, manifest.val.count, manifest.num_rejects) == (16, 4, 2)
        assert manifest.options == PrepareSettings(**OPTIONS).deciding()
        assert open_dataset(store) == manifest
        tables = [pq.read_table(pa.BufferReader(store.read(s.path))) for s in manifest.train.shards]
        rows = pa.concat_tables(tables).to_pylist()
        ids = np.concatenate([shard.sample_ids() for shard in manifest.train.shards])
        assert [row["sample_id"] for row in rows] == ids.tolist()
        names = {row["image"]["path"] for row in rows}
        assert names == {f"n{10 + i // 6:08}_{i}.JPEG" for i in range(18)} - {
            "n00000010_4.JPEG",
            "n00000011_9.JPEG",
        }
        assert read_classes(store, manifest.classes).label_of["n00000012"] == 2

    def test_members_and_rejects_are_listed(self, tmp_path: Path, workspace: FolderStore) -> None:
        archives = write_archives(tmp_path / "a", bad=[4])
        manifest, store = prepare(workspace, archives, max_rejects=1)
        members = pq.read_table(pa.BufferReader(store.read("members.parquet"))).to_pylist()
        assert len(members) == 16
        body = (archives / TRAIN).read_bytes()
        for row in members:
            if row["split"] == "train":
                image = body[row["start"] : row["start"] + row["size_bytes"]]
                assert hashlib.sha256(image).hexdigest() == row["sha256"]
        (reject,) = pq.read_table(pa.BufferReader(store.read("rejects.parquet"))).to_pylist()
        assert reject["member"] == "n00000010_4.JPEG"
        holes = [hole for shard in manifest.train.shards for hole in shard.holes]
        assert holes == [reject["sample_id"]]

    def test_statistics_are_those_of_the_training_images(
        self, tmp_path: Path, workspace: FolderStore
    ) -> None:
        archives = write_archives(tmp_path / "a")
        manifest, store = prepare(workspace, archives)
        body = (archives / TRAIN).read_bytes()
        members = pq.read_table(pa.BufferReader(store.read("members.parquet"))).to_pylist()
        pixels = np.stack(
            [
                decode_square(body[m["start"] : m["start"] + m["size_bytes"]], 32)
                for m in members
                if m["split"] == "train"
            ]
        ).astype(np.float64)
        statistics = read_statistics(store, manifest.statistics)
        flat = pixels.reshape(-1, 3)
        np.testing.assert_allclose(statistics.mean_image, pixels.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(statistics.channel_std, flat.std(axis=0), rtol=1e-6)
        variances = np.linalg.eigvalsh(np.cov(flat.T, bias=True))
        np.testing.assert_allclose(statistics.color_stds, np.sqrt(variances), rtol=1e-6)

    def test_finished_shards_are_not_rendered_again(
        self, tmp_path: Path, workspace: FolderStore
    ) -> None:
        archives = write_archives(tmp_path / "a", bad=[11])
        with pytest.raises(TooManyRejects, match=r"n00000011_11.JPEG"):
            prepare(workspace, archives, parallelism=1)
        store = workspace.child(f"datasets/{next(Path(workspace.uri, 'datasets').iterdir()).name}")
        assert store.stat("manifest.json") is None
        before = {info.key: info.version for info in store.list() if "part-" in info.key}
        assert before
        manifest, _ = prepare(workspace, archives, max_rejects=1)
        after = {info.key: info.version for info in store.list() if "part-" in info.key}
        assert before.items() <= after.items()
        assert manifest.num_rejects == 1

    def test_a_build_by_other_library_versions_starts_anew(
        self, tmp_path: Path, workspace: FolderStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        archives = write_archives(tmp_path / "a")
        _, store = prepare(workspace, archives)
        whole = files_of(store)
        for info in list(store.list()):
            if info.key.startswith("sources/") or "/" not in info.key:
                store.delete(info.key)
        store.delete("_build/val-00000.json")
        environment = json.loads(store.read("_build/environment.json"))
        environment["versions"]["pillow"] = "1.0"
        store.write("_build/environment.json", json.dumps(environment).encode())
        versions = {info.key: info.version for info in store.list() if "part-" in info.key}
        with caplog.at_level(logging.WARNING, "preprocessing"):
            prepare(workspace, archives)
        assert "half_built_dataset_started_anew" in caplog.text
        assert files_of(store) == whole
        again = {info.key: info.version for info in store.list() if "part-" in info.key}
        assert all(again[key] != version for key, version in versions.items())

    def test_archives_with_other_times_are_compared_and_then_known(
        self, tmp_path: Path, workspace: FolderStore
    ) -> None:
        archives = write_archives(tmp_path / "a")
        manifest, store = prepare(workspace, archives)
        os.utime(archives / TRAIN, ns=(1, 1))
        assert prepare(workspace, archives)[0] == manifest
        assert len(list(store.list("sources/"))) == 2

    def test_a_kill_just_after_the_manifest_costs_no_comparison(
        self, tmp_path: Path, workspace: FolderStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def commit_and_die(*args: Any, **options: Any) -> None:
            commit_dataset(*args, **options)
            raise KeyboardInterrupt

        def compare(*_: object) -> None:
            raise AssertionError("the archives were read again")

        archives = write_archives(tmp_path / "a")
        monkeypatch.setattr("preprocessing.prepare.commit_dataset", commit_and_die)
        with pytest.raises(KeyboardInterrupt):
            prepare(workspace, archives)
        monkeypatch.setattr("preprocessing.building.identity.read_members", compare)
        manifest, store = prepare(workspace, archives)
        assert open_dataset(store) == manifest

    def test_a_manifest_of_other_bytes_is_not_said_to_be_of_these_archives(
        self, tmp_path: Path, workspace: FolderStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def lose(*_: object, **__: object) -> None:
            raise ManifestError("another process committed other bytes", remedy="none")

        monkeypatch.setattr("preprocessing.prepare.commit_dataset", lose)
        with pytest.raises(ManifestError):
            prepare(workspace, write_archives(tmp_path / "a"))
        assert not [info for info in workspace.list("datasets/") if "/sources/" in info.key]

    def test_other_bytes_of_the_same_size_are_refused(
        self, tmp_path: Path, workspace: FolderStore
    ) -> None:
        archives = write_archives(tmp_path / "a")
        _, store = prepare(workspace, archives)
        members = pq.read_table(pa.BufferReader(store.read("members.parquet"))).to_pylist()
        victim = next(m for m in members if m["member"] == "n00000011_8.JPEG")
        body = bytearray((archives / TRAIN).read_bytes())
        body[victim["start"] + 300] ^= 1
        (archives / TRAIN).write_bytes(body)
        with pytest.raises(DataError, match=r"'n00000011_8.JPEG' is not the one"):
            prepare(workspace, archives)

    def test_another_fingerprint_is_refused(self, tmp_path: Path, workspace: FolderStore) -> None:
        archives = write_archives(tmp_path / "a")
        manifest, _ = prepare(workspace, archives)
        settings = PrepareSettings(**OPTIONS)
        for expected in (manifest.fingerprint, "0" * 64):
            dataset = DatasetSettings(name="tiny", archives=str(archives), fingerprint=expected)
            index = read_index(dataset, settings, workspace)
            if expected == manifest.fingerprint:
                assert prepare_dataset(index, dataset, settings, workspace) == manifest
            else:
                with pytest.raises(ManifestError, match=f"{manifest.fingerprint}.*{expected}"):
                    prepare_dataset(index, dataset, settings, workspace)

    def test_a_committed_dataset_with_a_short_shard_is_not_used(
        self, tmp_path: Path, workspace: FolderStore
    ) -> None:
        archives = write_archives(tmp_path / "a")
        manifest, store = prepare(workspace, archives)
        store.write(manifest.train.shards[0].path, b"short")
        with pytest.raises(ObjectCorrupt, match="has 5 bytes") as caught:
            prepare(workspace, archives)
        assert "--repair" in caught.value.remedy

    def test_a_damaged_list_of_a_committed_dataset_names_the_repair(
        self, tmp_path: Path, workspace: FolderStore
    ) -> None:
        archives = write_archives(tmp_path / "a")
        _, store = prepare(workspace, archives)
        body = store.read("rejects.parquet")
        store.write("rejects.parquet", body[:20] + bytes([body[20] ^ 1]) + body[21:])
        with pytest.raises(ObjectCorrupt, match=r"rejects.parquet does not have") as caught:
            prepare(workspace, archives)
        assert "--repair" in caught.value.remedy

    def test_other_library_versions_are_warned_of_once_and_the_dataset_is_used(
        self, tmp_path: Path, workspace: FolderStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        archives = write_archives(tmp_path / "a")
        manifest, store = prepare(workspace, archives)
        assert prepare(workspace, archives)[0] == manifest
        assert "other_versions" not in caplog.text
        other = manifest.model_copy(update={"made_with": {**manifest.made_with, "pillow": "1.0"}})
        store.write("manifest.json", other.to_bytes())
        assert prepare(workspace, archives)[0] == other
        assert caplog.text.count("dataset_made_with_other_versions") == 1
        assert "rendered now, its bytes agree: it was made with pillow 1.0" in caplog.text

    def test_a_folder_per_class_becomes_a_dataset(
        self, tmp_path: Path, workspace: FolderStore
    ) -> None:
        for i in range(12):
            path = tmp_path / "photos" / ("cat", "dog")[i % 2] / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(make_jpeg(i))
        dataset = DatasetSettings(name="mine", folder=str(tmp_path / "photos"))
        settings = PrepareSettings(**OPTIONS)
        index = read_index(dataset, settings, workspace)
        manifest = prepare_dataset(index, dataset, settings, workspace)
        assert (manifest.train.count, manifest.val.count, manifest.num_classes) == (10, 2, 2)
