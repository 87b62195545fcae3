import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet.inference import input_parts
from alexnet.inference.errors import InputRejected
from alexnet.inference.input_parts import ImageFile, InputPart, cut_parts, read_file, stream_parts
from alexnet.inference.inputs import find_parts
from infra.errors import ObjectCorrupt, StoreError
from infra.store import MemoryStore, ObjectStore


def read(*names: object) -> list[tuple[str, bytes, str]]:
    """Everything in order, files read one by one."""
    images = stream_parts(find_parts(map(str, names)))
    files = (read_file(item) if isinstance(item, InputPart) else item for item in images)
    return [(file.path, file.body, file.reason) for file in files]


def paths(*names: object) -> list[str]:
    return [path for path, _, _ in read(*names)]


def write(folder: Path, **files: bytes) -> None:
    for name, body in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def write_parquet(path: Path, table: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(table), path, **options)
    return path


def test_files_come_as_they_are_named_and_folders_by_name(tmp_path: Path) -> None:
    write(tmp_path, b=b"2", a__z=b"1", a__sub__y=b"0", a__sub___x=b"3")
    (tmp_path / "a" / ".hidden").mkdir()
    (tmp_path / "a" / ".hidden" / "w").write_bytes(b"4")
    found = read(tmp_path / "b", f"{tmp_path}/a/")
    assert found == [
        (f"{tmp_path}/b", b"2", ""),
        (f"{tmp_path}/a/sub/_x", b"3", ""),
        (f"{tmp_path}/a/sub/y", b"0", ""),
        (f"{tmp_path}/a/z", b"1", ""),
    ]


def test_paths_are_shown_as_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, here__a=b"1", here__sub__b=b"2")
    monkeypatch.chdir(tmp_path / "here" / "sub")
    assert paths("b", "../a", ".", "..") == ["b", "../a", "./b", "../a", "../sub/b"]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match=r"there is no file or folder .*/nothing"):
        find_parts([str(tmp_path), str(tmp_path / "nothing")])


def test_a_folder_of_nothing_is_listed(tmp_path: Path) -> None:
    assert read(tmp_path) == [(str(tmp_path), b"", "the folder holds no files")]


def test_a_name_that_is_no_utf8_is_shown_in_escapes_and_read(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xe4r")).write_bytes(b"1")
    assert read(tmp_path) == [(f"{tmp_path}/b\\xe4r", b"1", "")]


def test_empty_huge_and_vanished_files_have_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, a=b"", b=b"12345", c=b"1")
    parts = find_parts([str(tmp_path)])
    (tmp_path / "c").unlink()
    monkeypatch.setattr(input_parts, "MAX_BYTES", 4)
    assert [read_file(part).reason for part in parts] == [
        "it is empty",
        "it has 5 bytes, and 4 are the most",
        "it is gone",
    ]


def test_an_outage_is_no_property_of_a_file() -> None:
    class Away(MemoryStore):
        uri = "s3://bucket"

        def read(self, key: str) -> bytes:
            raise StoreError("away", remedy="wait")

    with pytest.raises(StoreError):
        read_file(InputPart(Away(), "a.jpg", "a.jpg", 3))


def test_rows_of_parquet_are_named_by_their_struct_or_by_number(tmp_path: Path) -> None:
    rows = [
        {"bytes": b"1", "path": "one.jpg"},
        {"bytes": b"2", "path": None},
        {"bytes": None, "path": "three.jpg"},
    ]
    path = write_parquet(tmp_path / "a.PARQUET", {"label": [7, 7, 7], "image": rows})
    assert read(path) == [
        ("one.jpg", b"1", ""),
        (f"{path}#1", b"2", ""),
        ("three.jpg", b"", "the row holds no bytes"),
    ]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"image": [b"1"], "thumbnail": [b"2"]}, b"1"),
        ({"jpeg": [b"3"], "label": [0]}, b"3"),
        ({"a": [b"1"], "b": [b"2"]}, None),
        ({"image": ["text"]}, None),
    ],
)
def test_the_column_is_image_or_the_only_binary_one(
    columns: dict[str, Any], found: bytes | None, tmp_path: Path
) -> None:
    path = write_parquet(tmp_path / "a.parquet", columns)
    ((_, body, reason),) = read(path)
    if found is None:
        assert reason.endswith(f"nor one binary column: {', '.join(columns)}")
    else:
        assert body == found


def test_rows_are_read_across_row_groups_from_any_start(tmp_path: Path) -> None:
    bodies = [bytes([i]) for i in range(1, 101)]
    path = write_parquet(tmp_path / "a.parquet", {"image": bodies}, row_group_size=7)
    (part,) = find_parts([str(path)])
    for run in cut_parts([part], 23):
        start, stop = run[0].rows or (0, 0)
        images = [item for item in stream_parts(run) if isinstance(item, ImageFile)]
        assert [image.body for image in images] == bodies[start:stop]
        assert images[0].path == f"{path}#{start}"


def test_damaged_parquet_is_a_reason_for_the_rows_it_holds(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "a.parquet",
        {"image": [b"x" * 999] * 3},
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
        write_statistics=False,
    )
    body = bytearray(path.read_bytes())
    body[1500] ^= 1
    path.write_bytes(body)
    assert {reason[:28] for _, _, reason in read(path)} == {"it is no sound Parquet file:"}
    assert len(read(path)) == 3
    path.write_bytes(body[:100])
    assert [reason[:28] for _, _, reason in read(path)] == ["it is no sound Parquet file:"]


def test_a_dataset_gives_its_validation_split(tiny_training: Any) -> None:
    found = read(tiny_training.store.uri)
    assert len(found) == tiny_training.manifest.val.count == 150
    assert [path for path, _, _ in found[:4]] == ["0.jpg", "1.jpg", "2.jpg", "4.jpg"]
    assert found[0][1][:2] == b"\xff\xd8"


def test_a_dataset_that_lacks_a_shard_is_refused(tiny_training: Any, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(tiny_training.manifest.to_bytes())
    with pytest.raises(ObjectCorrupt):
        find_parts([str(tmp_path)])


def test_all_of_these_may_lie_in_s3(s3_store: ObjectStore) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"image": [b"2"]}), sink)
    s3_store.write("pics/a.jpg", b"1")
    s3_store.write("pics/b.parquet", sink.getvalue().to_pybytes())
    uri = s3_store.uri
    expected = [(f"{uri}/pics/a.jpg", b"1", ""), (f"{uri}/pics/b.parquet#0", b"2", "")]
    assert read(f"{uri}/pics/") == expected
    assert read(f"{uri}/pics/a.jpg", f"{uri}/pics/b.parquet") == expected
    with pytest.raises(InputRejected, match="no file or folder s3://"):
        read(f"{uri}/other")


@given(st.lists(st.one_of(st.none(), st.integers(0, 20)), max_size=8), st.integers(1, 9))
def test_parts_are_cut_into_full_runs_that_keep_every_image(
    sizes: list[int | None], size: int
) -> None:
    store = MemoryStore()
    parts = [
        InputPart(store, str(i), str(i), 1, rows=None if rows is None else (0, rows))
        for i, rows in enumerate(sizes)
    ]
    runs = list(cut_parts(parts, size))
    counts = [sum(part.count for part in run) for run in runs]
    assert all(count == size for count in counts[:-1])
    assert not counts or 0 < counts[-1] <= size
    images = [
        (part.key, row) for run in runs for part in run for row in range(*(part.rows or (0, 1)))
    ]
    assert images == [(part.key, row) for part in parts for row in range(*(part.rows or (0, 1)))]
