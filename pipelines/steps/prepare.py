"""Stages 1 to 5: the archives become a committed dataset."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from infra.canonical import sha256_hex
from infra.lease import Lease
from infra.nodes import check_nodes_see
from infra.retry import retried_so_far
from infra.store import ObjectStore
from pipelines.tables import built_text, refused_text
from pipelines.workflow import Step
from preprocessing.building.refusal import read_refused
from preprocessing.dataset.manifest import Manifest, read_manifest
from preprocessing.dataset.rejects import read_rejects
from preprocessing.errors import TooManyRejects
from preprocessing.prepare import dataset_folder, dataset_key, earlier_dataset, prepare_dataset
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.source import read_index


@dataclass(frozen=True, slots=True)
class Dataset:
    """A committed dataset and where it lies."""

    store: ObjectStore
    manifest: Manifest


class PrepareStep(Step[Dataset]):
    """Archives or a folder → a dataset."""

    name: ClassVar[str] = "prepare"

    @cached_property
    def _index(self) -> DatasetIndex:
        recipe = self.context.recipe
        with self._retries_told():
            return read_index(recipe.dataset, recipe.prepare, self.context.workspace)

    @property
    def classes_sha256(self) -> str:
        """Hex SHA-256 of the dataset's classes.json, known before anything is rendered."""
        if self.is_done:
            return self.product.manifest.classes.sha256
        return sha256_hex(self._index.classes.to_bytes())

    def folder(self) -> ObjectStore:
        """Return the dataset's folder."""
        recipe = self.context.recipe
        key = dataset_key(self._index, recipe.prepare)
        return self.context.workspace.child(dataset_folder(recipe.dataset.name, key))

    def check_cluster(self) -> None:
        """Refuse a cluster whose nodes do not all see the archives."""
        if len(self.context.cluster.nodes) > 1:
            check_nodes_see(self._index.store, self._index.an_archive)

    def find(self) -> Dataset | None:
        """Find the committed dataset; its bytes are compared if the archives look changed."""
        return self._prepared() if read_manifest(self.folder()) is not None else None

    def make(self) -> Dataset:
        """Render and commit; say what came of it."""
        self._tell_of_an_earlier_one()
        self.context.start_cluster()
        try:
            built = self._prepared(self.lease)
        except TooManyRejects:
            if rejects := [reject.model_dump() for reject in read_refused(self.folder())]:
                self.context.say(f"{self.name}: {refused_text(rejects)}")
            raise
        self.context.say(f"{self.name}: {built_text(dataset_fields(built))}")
        return built

    def fields(self, product: Dataset) -> dict[str, Any]:
        """Return what `--json` shows."""
        return dataset_fields(product)

    def _tell_of_an_earlier_one(self) -> None:
        recipe, workspace = self.context.recipe, self.context.workspace
        folder = earlier_dataset(self._index, recipe.dataset, recipe.prepare, workspace)
        if folder is not None:
            self.context.say(
                f"{self.name}: {folder} is of the same images and settings, but was made by an"
                " earlier version of this program; this one may make other bytes of them, so they"
                " are rendered anew. What was trained on the old one keeps it"
            )

    def _prepared(self, lease: Lease | None = None) -> Dataset:
        recipe = self.context.recipe
        with self._retries_told(), self.context.progress(self.name) as progress:
            manifest = prepare_dataset(
                self._index, recipe.dataset, recipe.prepare, self.context.workspace, progress, lease
            )
        return Dataset(self.folder(), manifest)

    @contextmanager
    def _retries_told(self) -> Iterator[None]:
        """Say at the end, a failure's too, what was tried again, also by tasks that ended well."""
        before = retried_so_far()
        try:
            yield
        finally:
            if text := (retried_so_far() - before).text:
                self.context.say(f"{self.name}: {text}")


def dataset_fields(dataset: Dataset) -> dict[str, Any]:
    """Describe a dataset as `prepare --json` does."""
    manifest = dataset.manifest
    rejects = read_rejects(dataset.store, manifest)
    return {
        "uri": dataset.store.uri,
        "fingerprint": manifest.fingerprint,
        "num_classes": manifest.num_classes,
        "train": {"count": manifest.train.count},
        "val": {"count": manifest.val.count},
        "num_shards": len(manifest.shards),
        "size_bytes": sum(item.size_bytes for item in manifest.objects()),
        "rejects": [reject.model_dump(mode="json") for reject in rejects],
    }
