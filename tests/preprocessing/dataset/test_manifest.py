import json
from typing import Any

import pytest

from infra.store import MemoryStore
from preprocessing.dataset.manifest import MANIFEST, read_manifest
from preprocessing.errors import ManifestError


def test_a_manifest_that_cannot_be_read_has_a_way_out_that_does_not_read_it() -> None:
    store = MemoryStore()
    store.write(MANIFEST, b"{}")
    with pytest.raises(ManifestError, match="is not a manifest this version reads") as caught:
        read_manifest(store)
    assert "delete it and run `alexnet prepare`" in caught.value.remedy
    assert "with the libraries and the archives" in caught.value.remedy


@pytest.mark.parametrize(
    ("added", "named"),
    [
        ({"schema_version": 2, "name": 3}, "schema_version 2"),
        ({"later": 1, "also": {}}, "also, later"),
    ],
)
def test_a_manifest_of_a_newer_version_is_called_so(
    added: dict[str, Any], named: str, build: Any
) -> None:
    store = MemoryStore()
    build(store, MemoryStore())
    store.write(MANIFEST, json.dumps({**json.loads(store.read(MANIFEST)), **added}).encode())
    with pytest.raises(ManifestError, match=f"newer version of alexnet: it has {named}") as caught:
        read_manifest(store)
    assert "delete" not in caught.value.remedy


@pytest.mark.parametrize("added", [{"schema_version": 0}, {"later": 1, "name": 3}])
def test_a_damaged_manifest_is_not_called_newer(added: dict[str, Any], build: Any) -> None:
    store = MemoryStore()
    build(store, MemoryStore())
    store.write(MANIFEST, json.dumps({**json.loads(store.read(MANIFEST)), **added}).encode())
    with pytest.raises(ManifestError, match="not a manifest this version reads"):
        read_manifest(store)


def test_a_manifest_of_version_3_is_read(build: Any) -> None:
    """Its shards had SHA-256 of their pixels; what was trained on it asks for its classes."""
    store = MemoryStore()
    build(store, MemoryStore())
    fields = json.loads(store.read(MANIFEST))
    for shard in (*fields["train"]["shards"], *fields["val"]["shards"]):
        del shard["pixels_xxh3"]
        shard["pixels_sha256"] = "0" * 64
    store.write(MANIFEST, json.dumps(fields).encode())
    found = read_manifest(store)
    assert found is not None
    assert {shard.pixels_xxh3 for shard in found.train.shards} == {None}
