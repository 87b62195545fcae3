import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jpeg_archives import make_jpeg, write_archives

from infra.errors import DataError
from infra.store import FolderStore
from infra.store.s3 import S3Store
from preprocessing.building.plan import plan_split
from preprocessing.building.render import RenderJob, render_shard
from preprocessing.dataset.manifest import MEMBERS, REJECTS
from preprocessing.dataset.pixels import decode_image
from preprocessing.errors import ArchiveMissing
from preprocessing.settings import DatasetSettings, PrepareSettings
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.source import read_index
from preprocessing.sources.unpack import MAX_IMAGES

RowsOf = Callable[[DatasetIndex], list[tuple[str, str, str, bytes]]]

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def schema_of(
    names: Sequence[str] | None = ("cat", "dog"), image: str = "image", label: str = "label"
) -> pa.Schema:
    """What `datasets` writes for an Image and a ClassLabel."""
    features: dict[str, Any] = {image: {"_type": "Image"}}
    if names is not None:
        features[label] = {"_type": "ClassLabel", "names": list(names)}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([(image, IMAGE), (label, pa.int64())], metadata=metadata)


def write(
    path: Path, labels: Sequence[int | None], schema: pa.Schema | None = None, **changes: Any
) -> None:
    """One image a label; `changes` replace a whole column."""
    schema = schema or schema_of()
    image, label = schema.names[:2]
    images = [{"bytes": make_jpeg(i), "path": f"some/folder/{i}.jpg"} for i in range(len(labels))]
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {image: images, label: labels} | changes
    pq.write_table(pa.table(columns, schema=schema), path, row_group_size=2)


def index_of(folder: Path, workspace: FolderStore, **options: Any) -> DatasetIndex:
    dataset = DatasetSettings(huggingface=str(folder))
    return read_index(dataset, PrepareSettings(**options), workspace)


def test_images_labels_and_names_come_as_they_are(
    tmp_path: Path, workspace: FolderStore, rows_of: RowsOf
) -> None:
    data = tmp_path / "data"
    write(data / "train-00000-of-00002.parquet", [0, 1, 1])
    write(data / "train-00001-of-00002.parquet", [0])
    write(data / "validation-00000-of-00001.parquet", [1])
    write(data / "test-00000-of-00001.parquet", [-1])
    index = index_of(tmp_path, workspace)
    assert index.classes.names == ("cat", "dog")
    one, two = "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"
    assert rows_of(index) == [
        ("train", f"{one}/000000/0.jpg", "0", make_jpeg(0)),
        ("train", f"{one}/000001/1.jpg", "1", make_jpeg(1)),
        ("train", f"{one}/000002/2.jpg", "1", make_jpeg(2)),
        ("train", f"{two}/000000/0.jpg", "0", make_jpeg(0)),
        ("val", "data/validation-00000-of-00001.parquet/000000/0.jpg", "1", make_jpeg(0)),
    ]


def test_other_columns_of_the_right_types_are_found(tmp_path: Path, workspace: FolderStore) -> None:
    schema = schema_of(image="img", label="fine")
    write(tmp_path / "train.parquet", [0, 0, 1, 1], schema)
    index = index_of(tmp_path, workspace, val_fraction=0.5)
    assert (index.count("train"), index.count("val")) == (2, 2)
    assert index.classes.names == ("cat", "dog")


def test_without_names_the_labels_there_are_are_the_classes(
    tmp_path: Path, workspace: FolderStore
) -> None:
    write(tmp_path / "train.parquet", [0, 7, 11], schema_of(None))
    write(tmp_path / "test.parquet", [7], schema_of(None))
    index = index_of(tmp_path, workspace)
    assert [entry.wnid for entry in index.classes.classes] == ["00", "07", "11"]
    assert index.classes.names == ("0", "7", "11")


def test_paths_and_large_strings_and_small_labels_are_no_matter(
    tmp_path: Path, workspace: FolderStore, rows_of: RowsOf
) -> None:
    image = pa.struct([("bytes", pa.large_binary())])
    schema = pa.schema([("image", image), ("label", pa.uint8())])
    images = [{"bytes": make_jpeg(i)} for i in range(4)]
    write(tmp_path / "0.parquet", [0, 0, 1, 1], schema, image=images)
    index = index_of(tmp_path, workspace, val_fraction=0.5)
    assert sorted(body for *_, body in rows_of(index)) == sorted(make_jpeg(i) for i in range(4))
    assert {name for _, name, *_ in rows_of(index)} == {f"0.parquet/00000{i}" for i in range(4)}


def test_files_in_s3_are_unpacked_alike(
    s3_store: S3Store, tmp_path: Path, workspace: FolderStore, rows_of: RowsOf
) -> None:
    for name in ("train-0.parquet", "train-1.parquet", "val.parquet"):
        write(tmp_path / name, [0, 1, 1])
        s3_store.write(f"data/{name}", (tmp_path / name).read_bytes())
    here = index_of(tmp_path, workspace)
    dataset = DatasetSettings(huggingface=s3_store.child("data").uri)
    there = read_index(dataset, PrepareSettings(), s3_store.child("made"))
    assert there.store.uri.startswith(f"{s3_store.uri}/made/archives/huggingface-")
    assert (there.digest, rows_of(there)) == (here.digest, rows_of(here))


def test_our_own_shards_are_such_a_dataset(
    tmp_path: Path, workspace: FolderStore, rows_of: RowsOf
) -> None:
    archives = DatasetSettings(archives=str(write_archives(tmp_path / "archives")))
    prepare = PrepareSettings(stored_px=32, rows_per_group=2, rows_per_shard=4, encoding="raw")
    first = read_index(archives, prepare, workspace)
    job = RenderJob(
        source=first.store,
        target=FolderStore(tmp_path / "ours"),
        classes=first.classes,
        options=prepare,
    )
    expected = {}
    for split in ("train", "val"):
        for shard in plan_split(first.members, split, seed=0, rows_per_shard=4):
            render_shard(job, shard)
    for name in (MEMBERS, REJECTS):  # no shards; they have no split's name
        pq.write_table(pa.table({"sample_id": [1]}), tmp_path / "ours" / name)
    for path in (tmp_path / "ours").glob("*/*.parquet"):
        for row in pq.read_table(path).to_pylist():
            expected[row["image"]["path"]] = (row["wnid"], row["image"]["bytes"])
    second = index_of(tmp_path / "ours", workspace)
    assert second.classes == first.classes
    assert (second.count("train"), second.count("val")) == (12, 4)
    found = {name.rpartition("/")[2]: (wnid, body) for _, name, wnid, body in rows_of(second)}
    assert found == expected
    assert all(decode_image(body).shape == (32, 32, 3) for _, body in found.values())


@pytest.mark.parametrize(
    ("changes", "schema", "problem"),
    [
        ({"label": [0, None]}, None, "row 1 has no label"),
        ({"label": [0, -1]}, None, "row 1 has no label"),
        (
            {"label": [0, 2**64 - 1]},
            pa.schema([("image", IMAGE), ("label", pa.uint64())]),
            "row 1 has label 18446744073709551615",
        ),
        ({"label": [0, 2]}, None, "label 2 is none of 2 classes"),
        ({"image": [{"bytes": None, "path": "a.jpg"}] * 2}, None, "row 0 has no image in it"),
        ({"image": [None, None]}, None, "row 0 has no image in it"),
        ({"image": [{"bytes": b"", "path": "a.jpg"}] * 2}, None, "'train.parquet/000000/a.jpg' is"),
        ({}, schema_of(label="other", names=None), "has no column 'label', but"),
        ({}, schema_of(["a", "b\n"]), "the classes of column 'label' have no names"),
        (
            {"image": ["a", "b"]},
            pa.schema([("image", pa.string()), ("label", pa.int64())]),
            "column 'image' is string, no struct<bytes, path>",
        ),
        (
            {"image": [{"bytes": "a"}, {"bytes": "b"}]},
            pa.schema([("image", pa.struct([("bytes", pa.string())])), ("label", pa.int64())]),
            "no struct<bytes, path>",
        ),
        (
            {"label": ["a", "b"]},
            pa.schema([("image", IMAGE), ("label", pa.string())]),
            "column 'label' is string, no numbers",
        ),
    ],
)
def test_what_is_no_image_dataset_is_refused(
    changes: dict[str, Any],
    schema: pa.Schema | None,
    problem: str,
    tmp_path: Path,
    workspace: FolderStore,
) -> None:
    write(tmp_path / "train.parquet", [0, 1], schema, **changes)
    write(tmp_path / "val.parquet", [0, 1], schema, **changes)
    with pytest.raises(DataError, match=problem):
        index_of(tmp_path, workspace)


@pytest.mark.parametrize("text", ["", "[1", "[]", '{"info": 3}', '{"info": {"features": []}}'])
def test_metadata_that_say_nothing_are_passed_over(
    text: str, tmp_path: Path, workspace: FolderStore
) -> None:
    schema = schema_of().with_metadata({"huggingface": text})
    write(tmp_path / "train.parquet", [0, 1, 0, 1], schema)
    assert index_of(tmp_path, workspace, val_fraction=0.5).classes.names == ("0", "1")


def test_files_have_the_same_classes(tmp_path: Path, workspace: FolderStore) -> None:
    write(tmp_path / "train.parquet", [0, 1])
    write(tmp_path / "val.parquet", [0, 1], schema_of(["dog", "cat"]))
    with pytest.raises(DataError, match=r"val\.parquet .* other classes than the first"):
        index_of(tmp_path, workspace)


@pytest.mark.parametrize("cut_to", [0, 3, 200, 2000, -5])
def test_a_damaged_file_is_named(cut_to: int, tmp_path: Path, workspace: FolderStore) -> None:
    path = tmp_path / "train.parquet"
    write(path, [0, 1, 0, 1])
    path.write_bytes(path.read_bytes()[:cut_to])
    with pytest.raises(DataError, match=r"train\.parquet is damaged"):
        index_of(tmp_path, workspace)


def test_rows_without_end_are_refused(tmp_path: Path, workspace: FolderStore) -> None:
    """Run lengths make a million rows of one image a few bytes."""
    images = pa.array([{"bytes": b"P5 1 1 255 x", "path": None}], IMAGE)
    images = images.take(pa.array([0]).take(pa.repeat(0, 400_000)))
    table = pa.table({"image": images, "label": pa.repeat(0, 400_000)}, schema=schema_of())
    (tmp_path / "a").mkdir()
    pq.write_table(table, tmp_path / "a" / "train.parquet", compression="zstd")
    assert (tmp_path / "a" / "train.parquet").stat().st_size < 50_000
    with pytest.raises(DataError, match="more than 100 times its bytes"):
        index_of(tmp_path / "a", workspace)


def test_more_rows_than_can_be_are_refused_unread(tmp_path: Path, workspace: FolderStore) -> None:
    rows = MAX_IMAGES + 1
    columns = {"image": pa.nulls(rows, IMAGE), "label": pa.nulls(rows, pa.int64())}
    pq.write_table(pa.table(columns, schema=schema_of()), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="it has more than 2,000,000 rows"):
        index_of(tmp_path, workspace)


def test_a_folder_without_parquet_files_is_missing(tmp_path: Path, workspace: FolderStore) -> None:
    with pytest.raises(ArchiveMissing, match=r"holds no \*\.parquet files"):
        index_of(tmp_path, workspace)


def test_files_without_rows_are_no_dataset(tmp_path: Path, workspace: FolderStore) -> None:
    write(tmp_path / "train.parquet", [])
    with pytest.raises(DataError, match="holds no images"):
        index_of(tmp_path, workspace)
