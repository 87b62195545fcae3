"""What an index of images comes to."""

from collections.abc import Callable

import pytest

from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.fetch import read_members

Row = tuple[str, str, str, bytes]
"""Split, name, class's key and bytes of an image."""


@pytest.fixture(scope="session")
def rows_of() -> Callable[[DatasetIndex], list[Row]]:
    """Read all images of an index, in order."""
    return read_rows


def read_rows(index: DatasetIndex) -> list[Row]:
    members = read_members(index.store, index.members)
    return [(m.split, m.name, m.wnid, body) for m, body in members]
