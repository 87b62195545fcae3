"""Stage 5 of 11, commit: what was rendered becomes a dataset, all of it or nothing.

Objects first, then the manifest that names them, by create-if-absent.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.commit import commit_receipt, describe_object, read_receipt
from infra.lease import Lease
from infra.map_ahead import READERS, map_ahead
from infra.parquet import parquet_bytes
from infra.store import ObjectStore
from preprocessing.building.plan import PlannedShard
from preprocessing.building.refusal import check_rejects
from preprocessing.building.render import RenderJob, ShardReceipt, read_sums
from preprocessing.dataset.manifest import (
    CLASSES,
    MANIFEST,
    MEMBERS,
    REJECTS,
    STATISTICS,
    Manifest,
    Split,
    read_manifest,
)
from preprocessing.dataset.rejects import rejects_table
from preprocessing.dataset.statistics import PixelSums, finish
from preprocessing.errors import ManifestError
from preprocessing.sources.members import Members

SUMS_BYTES: Final = 256 << 20
"""Of shards' sums, read ahead."""


def commit_dataset(
    job: RenderJob,
    plan: Sequence[PlannedShard],
    receipts: Sequence[ShardReceipt],
    *,
    name: str,
    key: str,
    max_rejects: int,
    lease: Lease | None = None,
) -> Manifest:
    """Publish a dataset whose shards are all rendered; return the manifest that holds.

    Args:
        receipts: one a planned shard, in the plan's order.
        lease: of the folder; None where nobody else works in it.

    Raises:
        TooManyRejects: more than max_rejects; nothing is committed then.
        LeaseLost: another process works on it now.
        ManifestError: another process committed other bytes under the same key meanwhile, or
            not one training image is left.
    """
    rejects = [reject for receipt in receipts for reject in receipt.rejects]
    check_rejects(rejects, max_rejects)
    by_split = list(zip(plan, receipts, strict=True))
    shards = {
        split: tuple(receipt.shard for planned, receipt in by_split if planned.split == split)
        for split in ("train", "val")
    }
    if not any(shard.num_rows for shard in shards["train"]):
        raise ManifestError("not one training image is left", remedy="see the rejects' reasons")
    sums, members = _gather(job, by_split)
    lists = {
        CLASSES: job.classes.to_bytes(),
        STATISTICS: finish(sums).to_bytes(),
        MEMBERS: parquet_bytes(members),
        REJECTS: parquet_bytes(rejects_table(rejects)),
    }
    manifest = Manifest(
        name=name,
        key=key,
        num_classes=len(job.classes),
        height_px=job.options.stored_px,
        width_px=job.options.stored_px,
        shape=job.options.shape,
        encoding=job.options.encoding,
        rows_per_group=job.options.rows_per_group,
        train=Split(shards=shards["train"]),
        val=Split(shards=shards["val"]),
        classes=describe_object(CLASSES, lists[CLASSES]),
        statistics=describe_object(STATISTICS, lists[STATISTICS]),
        members=describe_object(MEMBERS, lists[MEMBERS]),
        rejects=describe_object(REJECTS, lists[REJECTS]),
        num_rejects=len(rejects),
        made_with=dict(job.versions),
        options=job.options.deciding(),
    )
    return _publish(job.target, manifest, lists, lease)


def _gather(
    job: RenderJob, rendered: Sequence[tuple[PlannedShard, ShardReceipt]]
) -> tuple[PixelSums, pa.Table]:
    total = PixelSums.zero(job.options.stored_px, job.options.stored_px, len(job.classes))
    tables: list[pa.Table] = []
    receipts = [receipt for _, receipt in rendered]
    largest = max((receipt.sums.size_bytes for receipt in receipts), default=1)
    readers = max(1, min(READERS, SUMS_BYTES // largest))
    all_sums = map_ahead(partial(read_sums, job.target), receipts, readers)
    for (planned, _), (sums, digests) in zip(rendered, all_sums, strict=True):
        if planned.split == "train" and sums is not None:
            total.merge(sums)
        tables.append(_members_table(planned.members, planned.start, digests))
    return total, pa.concat_tables(tables)


def _members_table(members: Members, start: int, digests: npt.NDArray[np.uint8]) -> pa.Table:
    table = members.table
    ids = np.arange(start, start + len(members), dtype=np.int64)
    return pa.table(
        {
            "split": table["split"],
            "sample_id": ids,
            "archive": table["archive"],
            "member": table["name"],
            "start": table["start"],
            "size_bytes": table["size_bytes"],
            "sha256": [digest.tobytes().hex() for digest in digests],
            "wnid": table["wnid"],
        }
    )


def _publish(
    store: ObjectStore, manifest: Manifest, lists: Mapping[str, bytes], lease: Lease | None
) -> Manifest:
    # Who was taken over comes late: with another pyarrow its lists are not those of the manifest
    # that is there, and must not take their place.
    if read_receipt(store, MANIFEST) is None:
        for path, body in lists.items():
            if lease is not None:
                lease.check()
            store.write(path, body)
        commit_receipt(store, MANIFEST, manifest.to_bytes())
    holding = read_manifest(store)
    if holding is None or holding.fingerprint != manifest.fingerprint:
        raise ManifestError(
            f"{store.uri}: another process committed other bytes under the same key",
            remedy="delete that folder and run again, with one set of library versions",
        )
    return holding
