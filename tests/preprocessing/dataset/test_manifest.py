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
