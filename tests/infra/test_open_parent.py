"""The place that an object is in, and its name there, from a path or a URI."""

from pathlib import Path

import pytest

from infra.errors import RecipeError
from infra.store import open_parent, open_store


@pytest.mark.parametrize(
    ("uri", "place", "name"),
    [
        ("/a/b.csv", "/a", "b.csv"),
        ("/b.csv", "/", "b.csv"),
        ("/", "/", ""),
        ("/a/..", "/a", ""),
        ("file:///a/b%20c.csv", "/a", "b c.csv"),
        ("s3://bucket/b.csv", "s3://bucket", "b.csv"),
        ("s3://bucket/a/b.csv", "s3://bucket/a", "b.csv"),
        ("s3://bucket/a/", "s3://bucket", "a"),
        ("s3://bucket", "s3://bucket", ""),
    ],
)
def test_a_path_or_uri_is_a_place_and_a_name(uri: str, place: str, name: str) -> None:
    store, found = open_parent(uri)
    assert (store.uri, found) == (place, name)


def test_a_relative_path_is_below_the_current_folder() -> None:
    store, name = open_parent("new/b.csv")
    assert (Path(store.uri), name) == (Path.cwd() / "new", "b.csv")


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///data/a%20b", "/data/a b"),
        ("file://localhost/data", "/data"),
        ("file:///data/a#b?c", "/data/a#b?c"),
        ("file:////data", "/data"),
        ("file:///", "/"),
    ],
)
def test_a_file_uri_is_the_place_it_names(uri: str, path: str) -> None:
    assert open_store(uri).uri == path


@pytest.mark.parametrize(("rest", "host"), [("data/ws", "data"), ("~/ws", "~"), ("ws", "ws")])
def test_a_file_uri_of_another_host_is_refused(rest: str, host: str) -> None:
    with pytest.raises(RecipeError, match=f"file://{rest} names the host '{host}'") as caught:
        open_store(f"file://{rest}")
    assert f"file:///{rest}" in caught.value.remedy


@pytest.mark.parametrize(
    ("uri", "problem", "remedy"),
    [
        ("s3:/bucket/prefix", "did you mean s3://…?", "put ./ before"),
        ("file:/data", "did you mean file:///…?", "put ./ before"),
        ("dbfs:/mnt", "would be a folder named dbfs: in the current one", "put ./ before"),
        ("hdfs://me:secret@host/x", "there is no store for hdfs://", "s3://…"),
        ("", "the path is empty", ". for the current one"),
    ],
)
def test_a_mistyped_place_is_no_folder_and_its_password_stays_untold(
    uri: str, problem: str, remedy: str
) -> None:
    for opened in (open_store, open_parent):
        with pytest.raises(RecipeError) as caught:
            opened(uri)
        assert problem in caught.value.problem
        assert remedy in caught.value.remedy
        assert "secret" not in caught.value.problem + caught.value.remedy


@pytest.mark.parametrize("path", ["./s3:/bucket", "C:/data", "a/s3:/b", "12:/x", "s3:bucket"])
def test_a_colon_in_a_path_is_a_letter_like_others(path: str) -> None:
    assert open_store(path).uri == str(Path.cwd() / path)


def test_a_path_object_is_a_place(tmp_path: Path) -> None:
    assert open_store(tmp_path).uri == str(tmp_path)
    assert open_parent(tmp_path / "x")[1] == "x"
