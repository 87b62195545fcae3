"""What an interrupted build left: taken up where it is sound, deleted where others made it."""

import hashlib
import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Final

from pydantic import ValidationError

from infra.claims import FOLDER as LEASES
from infra.commit import read_receipt
from infra.errors import LeaseLost, ObjectCorrupt
from infra.lease import Lease
from infra.map_ahead import READERS, map_ahead
from infra.ray_tasks import run_tasks
from infra.store import ObjectStore
from preprocessing.building.digests import damage_of
from preprocessing.building.identity import FOLDER as SOURCES
from preprocessing.building.plan import PlannedShard
from preprocessing.building.refusal import REFUSED
from preprocessing.building.render import RenderJob, ShardReceipt, read_sums
from preprocessing.dataset.manifest import MANIFEST, MEMBERS
from preprocessing.errors import ManifestError
from preprocessing.sources.fetch import read_members

ENVIRONMENT: Final = "_build/environment.json"
"""What decides a half-built dataset's bytes beside its key: library versions, and the archives."""
FEWER_AT_A_TIME: Final = "see Ray's logs; lower prepare.parallelism if it ran out of memory"
"""What to do when tasks of a build keep dying."""

log = logging.getLogger(__name__)


def discard_stale_build(
    job: RenderJob,
    plan: Sequence[PlannedShard],
    environment: bytes,
    lease: Lease,
    parallelism: int | None,
) -> None:
    """Delete what other library versions, or other archives, have half built. Ray must be up.

    The same goes for shards of which nothing says what made them: those of two encoders must not
    become one dataset.
    If only the archives look changed, finished shards stay whose members have the same bytes.

    Args:
        environment: of this build.
        lease: of the target; nothing is deleted once it is lost.
        parallelism: shards compared at a time; None: as many as the cluster has CPUs.

    Raises:
        LeaseLost: another process builds it, or has committed it by now.
        ManifestError: it was whole: a dataset that lost its manifest is not a half-built one.
        ArchiveMissing, ArchiveCorrupt: a member cannot be read any more.
    """
    target = job.target
    found = read_receipt(target, ENVIRONMENT)
    if found == environment:
        return
    # The leases stay, ours is among them.
    there = [info.key for info in target.list() if not info.key.startswith(LEASES)]
    if MANIFEST in there:
        # We looked for it under the lease: this process stood still, and was taken over.
        raise LeaseLost(
            f"{target.uri}: another process committed this dataset meanwhile",
            remedy="run the same command again to use it",
        )
    if found is not None or any(planned.receipt_path in there for planned in plan):
        # All that is still sound is known before anything is deleted, and the word of the old
        # archives stays until then: a kill on the way costs the comparison.
        kept = _unchanged(job, plan, parallelism) if _has_versions(found, job) else []
        if len(kept) < len(plan) and _was_whole(target, there, plan):
            raise _without_manifest(target, found, environment)
        log.warning(
            "half_built_dataset_%s uri=%s was=%s now=%s",
            f"kept num_shards={len(kept)}" if kept else "started_anew",
            target.uri,
            f"unknown, {ENVIRONMENT} is missing" if found is None else _text(found),
            _text(environment),
        )
        # The environment is replaced last: a kill on the way must not leave shards that the next
        # run takes for its own, or knows nothing of.
        spared = {ENVIRONMENT, *(path for item in kept for path in item.files)}
        for key in sorted({*there} - spared):
            lease.delete(target, key)
    lease.check()  # the word of another's build must not become ours
    target.write(ENVIRONMENT, environment)


@dataclass(frozen=True, slots=True)
class _Finished:
    """A shard with its receipt."""

    planned: PlannedShard
    receipt: ShardReceipt

    @property
    def files(self) -> tuple[str, str, str]:
        return self.receipt.shard.path, self.receipt.sums.path, self.planned.receipt_path


def _has_versions(environment: bytes | None, job: RenderJob) -> bool:
    """Tell whether it was made with this build's library versions."""
    try:
        found = json.loads(environment or b"null")
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("versions") == dict(job.versions)


def _unchanged(
    job: RenderJob, plan: Sequence[PlannedShard], parallelism: int | None
) -> list[_Finished]:
    """Find the finished shards whose members still have the bytes that they were rendered from."""
    receipts = finished_shards(job.target, plan)
    finished = [_Finished(item, receipts[item.path]) for item in plan if item.path in receipts]
    if not finished:
        return []
    log.warning(
        "archives_look_changed uri=%s: the members of %d finished shards are compared",
        job.source.uri,
        len(finished),
    )
    compared = run_tasks(
        has_same_members,
        job,
        finished,
        what="a comparison",
        name_of=attrgetter("planned.path"),
        parallelism=parallelism,
        remedy=FEWER_AT_A_TIME,
    )
    return [item for item, is_same in compared if is_same]


def has_same_members(job: RenderJob, finished: _Finished) -> tuple[_Finished, bool]:
    """Tell whether a finished shard's members have the bytes that it was rendered from."""
    try:
        _, digests = read_sums(job.target, finished.receipt)
    except ObjectCorrupt:
        return finished, False
    members = read_members(job.source, finished.planned.members)
    return finished, all(
        hashlib.sha256(body).digest() == expected.tobytes()
        for (_, body), expected in zip(members, digests, strict=True)
    )


def _without_manifest(
    target: ObjectStore, found: bytes | None, environment: bytes
) -> ManifestError:
    if found is None:
        return ManifestError(
            f"{target.uri} had all its shards and lacks {MANIFEST}, and {ENVIRONMENT}, which said"
            " what it was made with",
            remedy=f"restore {MANIFEST} from a copy; or delete that folder to make it anew: it then"
            " may have another fingerprint",
        )
    return ManifestError(
        f"{target.uri} had all its shards and lacks {MANIFEST}; it was made with {_text(found)};"
        f" here it would be {_text(environment)}",
        remedy=f"restore {MANIFEST} from a copy; or run again with the libraries and the"
        " archives it was made with; or delete that folder to make it"
        " anew: it then may have another fingerprint",
    )


def _text(environment: bytes) -> str:
    return environment.decode(errors="replace")


def _was_whole(target: ObjectStore, there: Collection[str], plan: Sequence[PlannedShard]) -> bool:
    """Tell whether there was all of a dataset once, even if a shard is damaged by now."""
    if REFUSED in there:  # of images that somebody may have replaced since
        return False
    # Both are written when every shard is finished.
    if MEMBERS in there or any(key.startswith(SOURCES) for key in there):
        return True
    return len(finished_shards(target, plan)) == len(plan)


def finished_shards(target: ObjectStore, plan: Sequence[PlannedShard]) -> dict[str, ShardReceipt]:
    """Find the shards, by path, whose receipt exists and whose files have the receipt's sizes."""
    sizes = {info.key: info.size_bytes for info in target.list()}
    return {
        path: receipt
        for path, receipt in kept_receipts(target, plan).items()
        if all(sizes.get(item.path) == item.size_bytes for item in (receipt.shard, receipt.sums))
    }


def kept_receipts(target: ObjectStore, plan: Sequence[PlannedShard]) -> dict[str, ShardReceipt]:
    """Read what receipts of a plan's shards there are, by the shard's path."""
    keys = {info.key for info in target.list("_build/")}
    there = [planned for planned in plan if planned.receipt_path in keys]
    receipts = map_ahead(partial(_read_receipt, target), there, READERS)
    return {receipt.shard.path: receipt for receipt in receipts if receipt is not None}


def _read_receipt(target: ObjectStore, planned: PlannedShard) -> ShardReceipt | None:
    """Read a planned shard's receipt; None where it is cut, or of another plan's shard."""
    try:
        receipt = ShardReceipt.model_validate_json(target.read(planned.receipt_path))
    except ValidationError:
        return None
    shard = receipt.shard
    is_this = (shard.path, shard.start, shard.stop) == (planned.path, planned.start, planned.stop)
    return receipt if is_this else None


def sound_shards(
    target: ObjectStore, finished: dict[str, ShardReceipt], parallelism: int | None
) -> dict[str, ShardReceipt]:
    """Keep the finished shards whose files have the receipts' bytes; the others are made anew."""
    if not finished:
        return {}
    tasks = run_tasks(
        _checked,
        target,
        list(finished.values()),
        what="a check",
        name_of=attrgetter("shard.path"),
        parallelism=parallelism,
        remedy=FEWER_AT_A_TIME,
    )
    damage = {path: found for path, found in tasks if found is not None}
    for path, found in damage.items():
        log.warning("finished_shard_damaged uri=%s path=%s problem=%s", target.uri, path, found)
    return {path: receipt for path, receipt in finished.items() if path not in damage}


def _checked(target: ObjectStore, receipt: ShardReceipt) -> tuple[str, str | None]:
    files = (receipt.shard, receipt.sums)
    damage = (f"{item.path} {found}" for item in files if (found := damage_of(target, item)))
    return receipt.shard.path, next(damage, None)
