from pathlib import Path

import numpy as np
import pytest

from infra.store import FolderStore
from preprocessing.settings import DatasetSettings, DrawnSettings, PrepareSettings
from preprocessing.sources.archives import DEVKIT_ARCHIVE, TRAIN_ARCHIVE, VAL_ARCHIVE
from preprocessing.sources.devkit import read_devkit
from preprocessing.sources.drawn import RECEIPT, draw_archives, ensure_drawn_archives
from preprocessing.sources.drawn_images import KINDS, SIZES_PX, draw, generator
from preprocessing.sources.source import read_index

SMALL = DrawnSettings(num_classes=4, train_per_class=3, val_per_class=2)


def test_the_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = FolderStore(tmp_path / "one"), FolderStore(tmp_path / "other")
    assert draw_archives(SMALL, one) == draw_archives(SMALL, other)
    another = draw_archives(SMALL.model_copy(update={"seed": 1}), other)
    assert {a.path for a in another} == {TRAIN_ARCHIVE, VAL_ARCHIVE, DEVKIT_ARCHIVE}
    assert another[0] != draw_archives(SMALL, one)[0]


def test_they_index_like_the_official_ones(workspace: FolderStore) -> None:
    index = read_index(DatasetSettings(archives="drawn", drawn=SMALL), PrepareSettings(), workspace)
    assert (index.count("train"), index.count("val")) == (12, 8)
    assert index.classes.names[0] == "disc, disk"
    val = [member.wnid for member in index.members.of_split("val")]
    assert sorted(val) == sorted([*index.classes.label_of] * 2)


def test_ids_do_not_follow_the_wnids_and_inner_synsets_are_no_classes(
    workspace: FolderStore,
) -> None:
    devkit = read_devkit(ensure_drawn_archives(DrawnSettings(train_per_class=1), workspace))
    assert len(devkit.classes) == 10
    assert np.array_equal(np.bincount(devkit.val_labels), np.full(10, 50))


def test_archives_that_are_there_are_not_drawn_again(workspace: FolderStore) -> None:
    store = ensure_drawn_archives(SMALL, workspace)
    before = list(store.list())
    assert list(ensure_drawn_archives(SMALL, workspace).list()) == before
    store.delete(VAL_ARCHIVE)
    ensure_drawn_archives(SMALL, workspace)
    assert store.stat(VAL_ARCHIVE) is not None


def test_a_receipt_that_cannot_be_read_is_replaced(workspace: FolderStore) -> None:
    store = ensure_drawn_archives(SMALL, workspace)
    whole = store.read(RECEIPT)
    store.write(RECEIPT, b"{}")
    ensure_drawn_archives(SMALL, workspace)
    assert store.read(RECEIPT) == whole


@pytest.mark.parametrize("label", range(len(KINDS)))
def test_every_kind_is_seen_against_its_ground(label: int) -> None:
    images = [draw(label, generator("test", label, i)) for i in range(5)]
    assert all(image.shape[:2] in SIZES_PX for image in images)
    assert all(image.std() > 15 for image in images)
