"""The place that an object is in, and its name there, from a path or a URI."""

from pathlib import Path

import pytest

from infra.store import open_parent


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
