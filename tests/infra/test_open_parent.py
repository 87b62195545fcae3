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
