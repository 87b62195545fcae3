import gzip
import io
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from jpeg_archives import DEVKIT, cut, make_devkit, make_meta_mat, make_tar, write_archives

from infra.store import FolderStore, MemoryStore
from preprocessing.dataset.labels import make_classes
from preprocessing.errors import ArchiveCorrupt, DevkitMismatch
from preprocessing.sources.devkit import (
    GROUND_TRUTH,
    MAX_PACKED_BYTES,
    META,
    parse_ground_truth,
    parse_leaves,
    read_devkit,
)

WORDS = {"n00000010": "crane", "n00000020": "crane", "n00000030": "tench, Tinca tinca"}


def test_the_genuine_meta_mat_has_1000_leaves(shared_data: Path) -> None:
    body = (shared_data / "ilsvrc-devkit-official" / "meta.mat").read_bytes()
    leaves = parse_leaves(body)
    assert sorted(leaves) == list(range(1, 1001))
    classes = make_classes({leaf.wnid: leaf.words for leaf in leaves.values()})
    assert classes.classes[0].wnid == "n01440764"
    assert classes.classes[0].name == "tench, Tinca tinca"
    assert classes.classes[999].wnid == "n15075141"
    assert len(set(classes.names)) == 1000  # two are called "crane"
    # Church and parachute are leaves whose wordnet_height says otherwise.
    assert {"n03028079", "n03888257"} <= set(classes.label_of)


def test_the_genuine_ground_truth_has_50000_ids(shared_data: Path) -> None:
    folder = shared_data / "ilsvrc-devkit-official"
    ids = parse_ground_truth((folder / "ILSVRC2012_validation_ground_truth.txt").read_bytes())
    assert len(ids) == 50_000
    assert np.array_equal(np.bincount(ids)[1:], np.full(1000, 50))


def test_the_mini_devkit_gives_ranks_of_the_sorted_wnids(shared_data: Path) -> None:
    devkit = read_devkit(FolderStore(shared_data / "ilsvrc-mini"))
    assert devkit.classes.label_of["n01440764"] == 0
    assert devkit.classes.label_of["n03888257"] == 9
    assert np.array_equal(np.bincount(devkit.val_labels), np.full(10, 50))


def read(body: bytes) -> np.ndarray:
    store = MemoryStore()
    store.write(DEVKIT, body)
    return read_devkit(store).val_labels


def test_ids_do_not_follow_the_wnids() -> None:
    labels = read(make_devkit(WORDS, [1, 3, 2]))
    assert labels.tolist() == [2, 0, 1]


def test_a_name_that_occurs_twice_is_told_apart_by_its_key() -> None:
    names = make_classes(WORDS).names
    assert names == ("crane (n00000010)", "crane (n00000020)", "tench, Tinca tinca")


@pytest.mark.parametrize("synset_id", [0, -1, 4, 70_000])
def test_an_id_that_is_no_leaf_is_a_mismatch(synset_id: int) -> None:
    with pytest.raises(DevkitMismatch, match=f"has id {synset_id}, which is no leaf"):
        read(make_devkit(WORDS, [1, synset_id]))


@pytest.mark.parametrize("text", [b"1\ntwo\n", b"1.5", b"1\n" + b"9" * 30])
def test_a_line_that_is_no_number_is_a_mismatch(text: bytes) -> None:
    with pytest.raises(DevkitMismatch, match="no list of ids"):
        parse_ground_truth(text)


def test_a_huge_id_in_meta_mat_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    huge = {"n00000010": 10**15, "n00000020": 1, "n00000030": 2}
    monkeypatch.setattr("jpeg_archives.ids_of", lambda _: huge)
    assert read(make_devkit(WORDS, [1, 10**15])).tolist() == [1, 0]


def test_an_id_without_end_is_a_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jpeg_archives.ids_of", lambda _: {"n00000010": float("inf")})
    with pytest.raises(DevkitMismatch, match="cannot be read"):
        parse_leaves(make_meta_mat(WORDS))


@pytest.mark.parametrize("body", [b"", b"MATLAB 5.0" * 100, make_meta_mat(WORDS)[:400]])
def test_an_unreadable_meta_mat_is_a_mismatch(body: bytes) -> None:
    with pytest.raises(DevkitMismatch):
        parse_leaves(body)


def test_a_cut_devkit_is_corrupt(tmp_path: Path) -> None:
    path = write_archives(tmp_path) / DEVKIT
    cut(path, path.stat().st_size // 2)
    with pytest.raises(ArchiveCorrupt, match="cut off"):
        read_devkit(FolderStore(tmp_path))


def test_a_devkit_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / DEVKIT).open("wb") as file:
        file.truncate(MAX_PACKED_BYTES + 1)
    with pytest.raises(ArchiveCorrupt, match="67,108,865 bytes, too many for a devkit"):
        read_devkit(FolderStore(tmp_path))


def test_a_packed_bomb_takes_bounded_memory() -> None:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb") as file:
        file.write(make_tar([("zeros", bytes(1 << 20))])[: 1 << 20])
        for _ in range(200):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveCorrupt, match="goes on behind its end"):
            read(out.getvalue())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 150 << 20


def test_a_list_of_labels_without_end_is_not_read() -> None:
    files = [(META, make_meta_mat(WORDS)), (GROUND_TRUTH, b"1\n" * (3 << 20))]
    with pytest.raises(DevkitMismatch, match="holds no data/ILSVRC2012_validation_ground_truth"):
        read(gzip.compress(make_tar(files), 1))


def test_what_else_a_devkit_holds_is_no_matter() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("kit/../../escape")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for name, body in ((META, make_meta_mat(WORDS)), (GROUND_TRUTH, b"1\n3\n")):
            info = tarfile.TarInfo(f"./kit/{name}")
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    assert read(gzip.compress(out.getvalue())).tolist() == [2, 0]


@pytest.mark.parametrize("words", ["", "two\nlines"])
def test_a_class_has_a_name(words: str) -> None:
    with pytest.raises(DevkitMismatch, match="synset 1 has no WNID, or no words"):
        parse_leaves(make_meta_mat({"n1": words}))
