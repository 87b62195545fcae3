"""The datasets of workspaces, by what is in them."""

from collections.abc import Iterable, Iterator

from infra.store import ObjectStore
from preprocessing.dataset.manifest import MANIFEST, Manifest, read_manifest
from preprocessing.errors import ManifestError


def find_dataset(
    fingerprint: str, places: Iterable[ObjectStore]
) -> tuple[ObjectStore, Manifest] | None:
    """Find a dataset by its fingerprint in the first workspace that has it."""
    datasets = (found for place in places for found in datasets_in(place))
    return next((found for found in datasets if found[1].fingerprint == fingerprint), None)


def datasets_in(workspace: ObjectStore) -> Iterator[tuple[ObjectStore, Manifest]]:
    """List the datasets of a workspace, by folder, as far as this version reads them."""
    for info in workspace.list("datasets/"):
        folder, _, name = info.key.rpartition("/")
        if name != MANIFEST or folder.count("/") != 1:
            continue
        store = workspace.child(folder)
        try:
            manifest = read_manifest(store)
        except ManifestError:
            continue  # another version's: not the one that is looked for
        if manifest is not None:
            yield store, manifest
