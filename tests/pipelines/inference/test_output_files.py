"""Where a command's result goes: what is refused before any work, and what is written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from infra.errors import RecipeError, StoreError
from pipelines.inference.output_files import (
    TABLES,
    check_output_file,
    check_output_folder,
    table_bytes,
    write_output,
)


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("mine")
    check_output_file(str(tmp_path / "old.csv"), TABLES)
    check_output_folder(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "mine"


def test_a_folder_that_is_not_there_yet_is_not_made_by_asking(tmp_path: Path) -> None:
    check_output_file(str(tmp_path / "new" / "deep" / "a.csv"), TABLES)
    check_output_folder(str(tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_written_in_the_end_is_refused_with_the_options_name(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(RecipeError, match=r"^--picture .*/a\.csv does not end with \.png$") as no:
        check_output_file(str(tmp_path / "a.csv"), (".png",), "--picture")
    assert no.value.remedy == "name a .png file"
    with pytest.raises(RecipeError, match=r"^--output .*/folder\.csv is a folder$"):
        check_output_file(str(tmp_path / "folder.csv"), TABLES)
    with pytest.raises(RecipeError, match=r"^--output s3://bucket does not end with"):
        check_output_file("s3://bucket", TABLES)
    with pytest.raises(RecipeError, match=r"^--output .*/file is a file$"):
        check_output_folder(str(tmp_path / "file"))
    with pytest.raises(StoreError):
        check_output_file(str(tmp_path / "file" / "a.csv"), TABLES)
    with pytest.raises(StoreError):
        check_output_folder(str(tmp_path / "file" / "out"))


@contextmanager
def as_someone_who_may_not_look(folder: Path) -> Iterator[None]:
    """Close a folder; as root, work as nobody meanwhile."""
    folder.mkdir(mode=0o000)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o700)


def test_a_folder_that_may_not_be_looked_into_is_a_place_that_refuses(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    with as_someone_who_may_not_look(closed):
        for check in (
            lambda: check_output_file(str(closed / "a" / "b.csv"), TABLES),
            lambda: check_output_folder(str(closed / "a")),
        ):
            with pytest.raises(StoreError):
                check()


def test_in_a_submitted_job_a_relative_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.context.is_submitted_job", lambda: True)
    with pytest.raises(RecipeError, match=r"^--output 'a.csv' is relative"):
        check_output_file("a.csv", TABLES)
    with pytest.raises(RecipeError, match=r"^--output 'out' is relative"):
        check_output_folder("out")


@pytest.mark.parametrize("name", ["new/a.parquet", "new/a.csv"])
def test_a_table_is_written_as_the_suffix_says_and_replaces_what_was_there(
    tmp_path: Path, name: str
) -> None:
    table = pa.table({"path": ["ä,b", 'c"d'], "distance": [0.5, 1.25]})
    output = tmp_path / name
    for shown in (table.slice(0, 1), table):
        write_output(str(output), table_bytes(shown, str(output)))
    read = pq.read_table(output) if output.suffix == ".parquet" else pa.csv.read_csv(output)
    assert read.equals(table)
    assert list(output.parent.iterdir()) == [output]
