"""Stages 3 to 5 in one call: an index becomes a committed dataset, or finds the one there is."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from infra.canonical import digest_of
from infra.errors import ObjectCorrupt
from infra.lease import Lease
from infra.progress import NotedReport, no_progress
from infra.store import ObjectStore
from preprocessing.building.commit import commit_dataset
from preprocessing.building.execute import render_shards
from preprocessing.building.identity import check_source, forget_source, record_source
from preprocessing.building.plan import PlannedShard, plan_split
from preprocessing.building.refusal import check_rejects
from preprocessing.building.render import RenderJob
from preprocessing.care.repair import repair_objects
from preprocessing.care.verify import Verification, require_manifest
from preprocessing.care.verify_files import Problem
from preprocessing.care.versions import warn_of_other_versions
from preprocessing.dataset.manifest import (
    MANIFEST,
    MEMBERS,
    REJECTS,
    RESTORED,
    Manifest,
    open_dataset,
    read_manifest,
)
from preprocessing.dataset.rejects import read_rejects
from preprocessing.errors import ManifestError
from preprocessing.settings import DatasetSettings, PrepareSettings
from preprocessing.sources.dataset_index import DatasetIndex

VERSION: Final = 5
"""Goes up when the same archives and options would give other bytes."""

REPAIR: Final = (
    "make what is damaged anew with the same recipe and settings: `alexnet prepare … --repair`"
)

log = logging.getLogger(__name__)


def dataset_key(index: DatasetIndex, prepare: PrepareSettings, version: int = VERSION) -> str:
    """Hex SHA-256 of what decides a dataset's bytes: members, classes and options.

    A folder's `val_fraction` is in it by the split that the index gives every member.
    """
    # Before VERSION 5 what raw and original images leave aside was in the key, too.
    deciding = prepare.deciding() if version >= 5 else prepare.all_but_how_it_is_built()
    options = {name: value for name, value in deciding.items() if name != "val_fraction"}
    return digest_of(["prepare", version, options, index.digest])


def dataset_folder(name: str, key: str) -> str:
    """Return where a dataset lies, below the workspace."""
    return f"datasets/{name}-{key[:16]}"


def earlier_dataset(
    index: DatasetIndex, dataset: DatasetSettings, prepare: PrepareSettings, workspace: ObjectStore
) -> str | None:
    """Return the folder of a dataset that an earlier VERSION made of the same, or None.

    By its key, so it is found only while `prepare` has the settings it had then.
    """
    for version in range(VERSION - 1, 0, -1):
        folder = dataset_folder(dataset.name, dataset_key(index, prepare, version))
        if workspace.child(folder).stat(MANIFEST) is not None:
            return folder
    return None


def prepare_dataset(
    index: DatasetIndex,
    dataset: DatasetSettings,
    prepare: PrepareSettings,
    workspace: ObjectStore,
    progress: NotedReport = no_progress,
    lease: Lease | None = None,
) -> Manifest:
    """Build and commit the dataset of an index, or reuse the committed one. Ray must be up.

    Args:
        lease: of the dataset's folder, for a build; None where nobody else can be at work there.

    Raises:
        TooManyRejects: more than prepare.max_rejects; nothing is committed then, and
            `_build/rejects.parquet` lists them.
        ManifestError: its fingerprint is not the one that dataset.fingerprint asks for.
        ObjectCorrupt: a committed dataset lacks an object, or one has another size.
        DataError: a committed dataset was made from other bytes than the archives have now.
    """
    key = dataset_key(index, prepare)
    store = workspace.child(dataset_folder(dataset.name, key))
    if read_manifest(store) is None:
        lease = lease or Lease(store, 0)
        manifest = _build(index, dataset.name, key, prepare, store, progress, lease)
    else:
        with _repair_named():
            manifest = open_dataset(store)
            rejects, listed_in = read_rejects(store, manifest), f"{store.uri}/{REJECTS}"
            check_rejects(rejects, prepare.max_rejects, listed_in=listed_in)
            check_source(store, manifest, index, progress)
        job = _job_of(index, prepare, store)
        warn_of_other_versions(job, manifest, lambda: plan_dataset(index, prepare))
    _check_fingerprint(manifest, dataset.fingerprint, store.uri)
    return manifest


def repair_dataset(
    index: DatasetIndex,
    prepare: PrepareSettings,
    store: ObjectStore,
    found: Verification,
    progress: NotedReport = no_progress,
    *,
    lease: Lease,
) -> list[str]:
    """Make anew what a verification found damaged, and return its paths. Ray must be up.

    The manifest stays as it is, and so does the fingerprint.

    Args:
        store: the folder of the committed dataset of this index.
        found: what `verify_dataset` returned.
        lease: of that folder.

    Raises:
        ManifestError: what is made here has other bytes than the manifest names, or the manifest
            contradicts what it names; all that can be mended is mended before.
        DataError: the archives hold other images than the dataset was made from.
    """
    manifest = require_manifest(store)
    damaged = {item.path for item in found.problems if item.is_damage}
    if damaged:
        if MEMBERS not in damaged:
            check_source(store, manifest, index, progress)
        repair_objects(
            _job_of(index, prepare, store),
            plan_dataset(index, prepare),
            manifest,
            damaged,
            parallelism=prepare.parallelism,
            progress=progress,
            lease=lease,
        )
        log.info("dataset_repaired uri=%s num_objects=%d", store.uri, len(damaged))
    _refuse_contradictions(store, [item for item in found.problems if not item.is_damage])
    return sorted(damaged)


def plan_dataset(index: DatasetIndex, prepare: PrepareSettings) -> tuple[PlannedShard, ...]:
    """Plan both splits, train first."""
    train, val = (
        plan_split(index.members, split, seed=prepare.seed, rows_per_shard=prepare.rows_per_shard)
        for split in ("train", "val")
    )
    return train + val


def _build(
    index: DatasetIndex,
    name: str,
    key: str,
    prepare: PrepareSettings,
    store: ObjectStore,
    progress: NotedReport,
    lease: Lease,
) -> Manifest:
    job = _job_of(index, prepare, store)
    plan = plan_dataset(index, prepare)
    receipts = render_shards(
        job,
        plan,
        source_digest=index.source_digest,
        max_rejects=prepare.max_rejects,
        parallelism=prepare.parallelism,
        progress=progress,
        lease=lease,
    )
    # Before the manifest: a kill in between must not cost a comparison of all archives.
    record_source(store, index)
    try:
        manifest = commit_dataset(
            job,
            plan,
            receipts,
            name=name,
            key=key,
            max_rejects=prepare.max_rejects,
            lease=lease,
        )
    except ManifestError:
        forget_source(store, index)  # the manifest there, if any, is of other bytes
        raise
    log.info(
        "dataset_committed uri=%s train=%d val=%d num_rejects=%d fingerprint=%s",
        store.uri,
        manifest.train.count,
        manifest.val.count,
        manifest.num_rejects,
        manifest.fingerprint,
    )
    return manifest


def _job_of(index: DatasetIndex, prepare: PrepareSettings, store: ObjectStore) -> RenderJob:
    return RenderJob(source=index.store, target=store, classes=index.classes, options=prepare)


@contextmanager
def _repair_named() -> Iterator[None]:
    """Say of a damaged dataset how it is mended."""
    try:
        yield
    except ObjectCorrupt as error:
        raise ObjectCorrupt(error.problem, remedy=f"{REPAIR}; or restore it from a copy") from error


def _refuse_contradictions(store: ObjectStore, problems: Sequence[Problem]) -> None:
    if problems:
        lines = [f"  {item.path}: {item.problem}" for item in problems]
        raise ManifestError(
            f"{store.uri} has its bytes, and the manifest contradicts them:\n" + "\n".join(lines),
            remedy=RESTORED,
        )


def _check_fingerprint(manifest: Manifest, expected: str | None, uri: str) -> None:
    if expected is not None and manifest.fingerprint != expected:
        raise ManifestError(
            f"{uri} has fingerprint {manifest.fingerprint}, the recipe asks for {expected}",
            remedy="use the archives, options and library versions that gave the one asked for,"
            " or leave dataset.fingerprint out",
        )
