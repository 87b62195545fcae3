from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infra.commit import write_object
from infra.parquet import parquet_bytes
from infra.store import FolderStore, MemoryStore
from pipelines.steps.prepare import Dataset
from pipelines.steps.seen import seen_in_training
from preprocessing.dataset.manifest import MANIFEST, read_manifest

OURS = [("train", 0, "a"), ("train", 1, "b"), ("val", 0, "c"), ("val", 1, "d"), ("val", 2, "e")]
THEIRS = [("train", 0, "e"), ("train", 1, "c"), ("train", 2, "f"), ("val", 0, "d")]


def write_dataset(store: FolderStore, tiny: Any, members: list[tuple[str, int, str]]) -> Dataset:
    """The tiny manifest, with other statistics, over these members."""
    splits, ids, digests = zip(*members, strict=True)
    table = pa.table(
        {
            "split": pa.array(splits).dictionary_encode(),
            "sample_id": ids,
            "sha256": [digit * 64 for digit in digests],
            "member": [f"{digit}.jpg" for digit in digests],
        }
    )
    written = {
        "members": write_object(store, "members.parquet", parquet_bytes(table)),
        "statistics": write_object(store, "stats.safetensors", str(members).encode()),
    }
    store.write(MANIFEST, tiny.manifest.model_copy(update=written).to_bytes())
    manifest = read_manifest(store)  # its shards are not needed
    assert manifest is not None
    return Dataset(store, manifest)


@pytest.fixture
def ours(tiny_training: Any, tmp_path: Path) -> Dataset:
    return write_dataset(FolderStore(tmp_path / "here/datasets/d"), tiny_training, OURS)


@pytest.fixture
def theirs(tiny_training: Any, tmp_path: Path) -> Dataset:
    return write_dataset(FolderStore(tmp_path / "there/datasets/d"), tiny_training, THEIRS)


def places(tmp_path: Path) -> list[FolderStore]:
    return [FolderStore(tmp_path / "here"), FolderStore(tmp_path / "there")]


def test_validation_images_that_the_champion_was_trained_on_are_found_by_their_bytes(
    ours: Dataset, theirs: Dataset, tmp_path: Path
) -> None:
    found = seen_in_training(ours, theirs.manifest.fingerprint, places(tmp_path), "7")
    assert found.sample_ids.tolist() == [0, 2]
    assert found.note == (
        "held against champion 7 without 2 of 150 images, which it was trained on"
    )


def test_of_the_same_dataset_and_of_one_that_shares_no_image_there_is_nothing_to_say(
    ours: Dataset, tiny_training: Any, tmp_path: Path
) -> None:
    same = seen_in_training(ours, ours.manifest.fingerprint, [], "7")
    place = FolderStore(tmp_path / "there/datasets/d")
    other = write_dataset(place, tiny_training, [("train", 0, "a"), ("val", 0, "c")])
    apart = seen_in_training(ours, other.manifest.fingerprint, places(tmp_path), "7")
    for found in (same, apart):
        assert (found.sample_ids.tolist(), found.note) == ([], "")


def test_where_its_dataset_is_not_to_be_had_it_is_said(
    ours: Dataset, theirs: Dataset, tmp_path: Path
) -> None:
    fingerprint = theirs.manifest.fingerprint
    gone = seen_in_training(ours, fingerprint, [MemoryStore()], "7")
    (Path(theirs.store.uri) / "members.parquet").unlink()
    damaged = seen_in_training(ours, fingerprint, places(tmp_path), "7")
    for found in (gone, damaged):
        assert not len(found.sample_ids)
        assert found.note == (
            f"champion 7 was trained on dataset {fingerprint[:12]}, which is not here: its training"
            " images may be among these"
        )
    assert seen_in_training(ours, None, [], "7").note.endswith("trained on is not known")
