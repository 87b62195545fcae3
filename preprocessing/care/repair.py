"""Make damaged objects of a committed dataset anew: with the same bytes, or not at all.

All is made aside first, below `_build/repair/` and the number of the lease, and put in place whole,
so a reader meets the old object or the new one. Nothing else is touched, the manifest least of all.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

import pyarrow.compute as pc

from infra.canonical import sha256_hex
from infra.commit import StoredObject, read_object
from infra.errors import DataError, ObjectCorrupt
from infra.lease import Lease
from infra.parquet import read_parquet
from infra.progress import ProgressReport
from infra.ray_tasks import run_tasks
from infra.store import ObjectStore
from preprocessing.building.commit import commit_dataset
from preprocessing.building.digests import copy_object
from preprocessing.building.plan import PlannedShard
from preprocessing.building.render import (
    RENDERED_ANEW,
    RenderJob,
    ShardReceipt,
    read_sums,
    render_shard,
)
from preprocessing.building.resume import FEWER_AT_A_TIME, kept_receipts
from preprocessing.building.versions import encoder_versions, refuse_other_versions
from preprocessing.care.versions import versions_text
from preprocessing.dataset.manifest import (
    CLASSES,
    MEMBERS,
    REJECTS,
    RESTORED,
    STATISTICS,
    Manifest,
    Shard,
)
from preprocessing.errors import ManifestError

ASIDE: Final = "_build/repair"
_LISTS: Final = frozenset({STATISTICS, MEMBERS, REJECTS})
"""What is gathered from the receipts and sums of all shards."""


@dataclass(frozen=True, slots=True)
class Repair:
    """What the repair of all shards has in common. Picklable."""

    job: RenderJob
    """Its target lies aside."""
    place: ObjectStore
    """The dataset's folder."""


@dataclass(frozen=True, slots=True)
class WantedShard:
    """A shard to be rendered again: to replace a damaged one, or only for its sums."""

    planned: PlannedShard
    expected: Shard
    replaces: bool


@dataclass(frozen=True, slots=True)
class RenderedShard:
    """What came of it."""

    wanted: WantedShard
    receipt: ShardReceipt

    @property
    def is_same(self) -> bool:
        """Whether it has the bytes that the manifest names."""
        return self.receipt.shard.sha256 == self.wanted.expected.sha256


def repair_objects(
    job: RenderJob,
    plan: Sequence[PlannedShard],
    manifest: Manifest,
    damaged: Set[str],
    *,
    parallelism: int | None,
    progress: ProgressReport,
    lease: Lease,
) -> None:
    """Make the damaged objects of a committed dataset anew. Ray must be up.

    Args:
        job: its target is the dataset's folder.
        plan: what the dataset was made by.
        damaged: paths of objects that the manifest names.
        lease: of the dataset's folder. All is made in a place of its number: who was taken over
            and comes late meets nothing of his successor's.

    Raises:
        ManifestError: what is made here has other bytes than the manifest names, or the manifest
            names other shards than are planned.
        DataError: so it has, because a member has other bytes than the dataset was made from.
    """
    _check_plan(job.target, plan, manifest)
    for info in list(job.target.list(f"{ASIDE}/")):  # what killed repairs left
        lease.delete(job.target, info.key)
    aside = job.target.child(f"{ASIDE}/{lease.number:04}")
    try:
        receipts = _render(
            Repair(replace(job, target=aside), job.target),
            _wanted(job.target, plan, manifest, damaged),
            manifest,
            parallelism=parallelism,
            progress=progress,
        )
        if CLASSES in damaged:
            _write_classes(job, manifest)
        if damaged & _LISTS:
            _gather_again(job, aside, plan, manifest, damaged & _LISTS, receipts)
    finally:
        _empty(aside)


def repair_shard(repair: Repair, wanted: WantedShard) -> RenderedShard:
    """Render one shard aside and put it in place if it has the bytes that the manifest names.

    Raises:
        ServiceError: this node has other libraries than the process that repairs.
    """
    refuse_other_versions(repair.job.versions)
    rendered = RenderedShard(wanted, render_shard(repair.job, wanted.planned))
    if rendered.is_same and wanted.replaces:
        copy_object(repair.job.target, repair.place, wanted.expected)
    repair.job.target.delete(wanted.planned.path)
    return rendered


def _check_plan(place: ObjectStore, plan: Sequence[PlannedShard], manifest: Manifest) -> None:
    named = [(shard.path, shard.start, shard.stop) for shard in manifest.shards]
    if named != [(planned.path, planned.start, planned.stop) for planned in plan]:
        raise ManifestError(
            f"{place.uri}: the manifest names other shards than it was made with",
            remedy=RESTORED,
        )


def _wanted(
    place: ObjectStore, plan: Sequence[PlannedShard], manifest: Manifest, damaged: Set[str]
) -> list[WantedShard]:
    """Choose the damaged shards; for the lists also those whose sums are not kept."""
    expected = {shard.path: shard for shard in manifest.shards}
    kept = _kept(place, plan, manifest) if damaged & _LISTS else expected
    return [
        WantedShard(planned, expected[planned.path], replaces=planned.path in damaged)
        for planned in plan
        if planned.path in damaged or planned.path not in kept
    ]


def _kept(
    place: ObjectStore, plan: Sequence[PlannedShard], manifest: Manifest
) -> dict[str, ShardReceipt]:
    """Return the receipts of the very shards that the manifest names, with sound sums."""
    found = _named(place, plan, manifest)
    return {path: receipt for path, receipt in found.items() if _is_sound(place, receipt.sums)}


def _named(
    place: ObjectStore, plan: Sequence[PlannedShard], manifest: Manifest
) -> dict[str, ShardReceipt]:
    """Return the receipts of the very shards that the manifest names."""
    digests = {shard.path: shard.sha256 for shard in manifest.shards}
    found = kept_receipts(place, plan)
    return {
        path: receipt for path, receipt in found.items() if receipt.shard.sha256 == digests[path]
    }


def _is_sound(place: ObjectStore, item: StoredObject) -> bool:
    try:
        read_object(place, item)
    except ObjectCorrupt:
        return False
    return True


def _render(
    repair: Repair,
    wanted: Sequence[WantedShard],
    manifest: Manifest,
    *,
    parallelism: int | None,
    progress: ProgressReport,
) -> dict[str, ShardReceipt]:
    """Render all that is wanted; return receipts by path."""
    total = sum(len(item.planned.members) for item in wanted)
    done = 0
    receipts: dict[str, ShardReceipt] = {}
    # With other libraries one is tried alone: if it comes out otherwise, so would the rest.
    num_tried = len(wanted) if encoder_versions() == manifest.made_with else 1
    for part in (wanted[:num_tried], wanted[num_tried:]):
        failed: list[RenderedShard] = []
        for rendered in run_tasks(
            repair_shard,
            repair,
            part,
            what="a repair task",
            name_of=attrgetter("planned.path"),
            parallelism=parallelism,
            remedy=FEWER_AT_A_TIME,
        ):
            receipts[rendered.wanted.planned.path] = rendered.receipt
            if rendered.wanted.replaces and not rendered.is_same:
                failed.append(rendered)
            done += len(rendered.wanted.planned.members)
            progress(done, total)
        if failed:
            _refuse_other_members(repair, failed, manifest)
            raise _other_bytes(repair.place.uri, failed, manifest)
    return receipts


def _write_classes(job: RenderJob, manifest: Manifest) -> None:
    body = job.classes.to_bytes()
    _refuse_other(job.target, manifest, manifest.classes, sha256_hex(body))
    job.target.write(CLASSES, body)


def _gather_again(
    job: RenderJob,
    aside: ObjectStore,
    plan: Sequence[PlannedShard],
    manifest: Manifest,
    damaged: Set[str],
    rendered: Mapping[str, ShardReceipt],
) -> None:
    """Commit the dataset aside, from all receipts, and take the damaged lists from there."""
    receipts = {**_named(job.target, plan, manifest), **rendered}
    for path, receipt in receipts.items():
        if path not in rendered:
            sums = read_object(job.target, receipt.sums, remedy=RENDERED_ANEW)
            aside.write(receipt.sums.path, sums)
    made = commit_dataset(
        replace(job, target=aside),
        plan,
        [receipts[planned.path] for planned in plan],
        name=manifest.name,
        key=manifest.key,
        max_rejects=manifest.num_rejects,
    )
    digests = {item.path: item.sha256 for item in made.objects()}
    wanted = [item for item in manifest.objects() if item.path in damaged]
    for item in wanted:
        _refuse_other(job.target, manifest, item, digests[item.path])
    for item in wanted:
        copy_object(aside, job.target, item)


def _refuse_other(
    place: ObjectStore, manifest: Manifest, expected: StoredObject, sha256: str
) -> None:
    if sha256 != expected.sha256:
        raise ManifestError(
            f"{place.uri}/{expected.path}: made anew it has other bytes than the manifest names,"
            f" so it was not replaced; {versions_text(manifest.made_with, encoder_versions())}",
            remedy=_REMEDY,
        )


def _refuse_other_members(
    repair: Repair, failed: Sequence[RenderedShard], manifest: Manifest
) -> None:
    """Raise DataError if a shard came out otherwise because a member has other bytes by now.

    An archive on a bad disk looks as it did: same size, same time.
    """
    try:
        table = read_parquet(read_object(repair.place, manifest.members))
    except ObjectCorrupt:
        return  # then nothing says what the members were
    for rendered in failed:
        planned = rendered.wanted.planned
        of_split = table.filter(pc.equal(table["split"], planned.split))
        expected = of_split.slice(planned.start, len(planned.members))["sha256"].to_pylist()
        _, digests = read_sums(repair.job.target, rendered.receipt)
        for member, digest, before in zip(planned.members, digests, expected, strict=True):
            if digest.tobytes().hex() != before:
                raise DataError(
                    f"{repair.job.source.uri}/{member.archive}: member {member.name!r} is not the"
                    f" one that {repair.place.uri} was made from, so {planned.path} was not"
                    " replaced",
                    remedy="restore the archive, or the shard, from a copy, and repair again",
                )


def _other_bytes(uri: str, failed: Sequence[RenderedShard], manifest: Manifest) -> ManifestError:
    paths = ", ".join(item.wanted.planned.path for item in failed[:3])
    return ManifestError(
        f"{uri}: {paths}{' and more' if len(failed) > 3 else ''}: rendered again, the bytes are"
        f" other than the manifest names, so it was not replaced; {_pixels(failed)};"
        f" {versions_text(manifest.made_with, encoder_versions())}",
        remedy=_REMEDY,
    )


def _pixels(failed: Sequence[RenderedShard]) -> str:
    """Say whether the pixels before encoding are still the same."""
    pairs = {(item.wanted.expected.pixels_xxh3, item.receipt.shard.pixels_xxh3) for item in failed}
    if any(None in pair for pair in pairs):
        return "whether the pixels agree is not known: the manifest has no digest of them"
    if all(before == now for before, now in pairs):
        return "the pixels agree, only their encoding differs"
    return "the pixels differ too"


_REMEDY: Final = (
    "install the versions it was made with and repair again, restore it from a copy, or delete the"
    " dataset's folder and prepare it anew: it then has another fingerprint"
)


def _empty(aside: ObjectStore) -> None:
    for info in list(aside.list()):
        aside.delete(info.key)
