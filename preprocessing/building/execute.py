"""Stage 4 of 11, render over Ray: one task a shard, resumed at the shard.

Ray is up already; what it books and how many tasks run at a time never changes a byte.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Final

from infra.allocator import keep_memory
from infra.canonical import canonical_json
from infra.lease import Lease
from infra.progress import NotedReport
from infra.ray_tasks import cpus_for_each, run_tasks
from infra.store import ObjectStore
from preprocessing.building.plan import PlannedShard
from preprocessing.building.refusal import REFUSED, are_too_many, refuse_build
from preprocessing.building.render import RenderJob, ShardReceipt, render_shard
from preprocessing.building.resume import (
    FEWER_AT_A_TIME,
    discard_stale_build,
    finished_shards,
    sound_shards,
)
from preprocessing.building.versions import refuse_other_versions

KEPT_BYTES: Final = 64 << 20
"""Of freed memory, by a process that renders: an ordinary image's buffers, many times over."""

log = logging.getLogger(__name__)


def render_shards(
    job: RenderJob,
    plan: Sequence[PlannedShard],
    *,
    source_digest: str,
    max_rejects: int,
    parallelism: int | None,
    progress: NotedReport,
    lease: Lease,
) -> list[ShardReceipt]:
    """Render the shards of a plan that are not there yet; return every receipt, in plan order.

    Args:
        source_digest: identity of the archives; of a half-built dataset of others only the shards
            stay whose members have the same bytes.
        parallelism: shards at a time; None: as many as the cluster has CPUs. Where CPUs would be
            idle, of few shards or at the end, several threads render a shard.
        lease: of the dataset's folder.

    Raises:
        TooManyRejects: more than max_rejects; at the end, so that all are known, unless there are
            so many that it is hopeless. `REFUSED` lists them then.
        LeaseLost: another process builds this dataset, or has committed it.
        ManifestError: all is there but the manifest, made with other versions or archives.
        ProjectError: whatever deliberate error a task ended with.
        ServiceError: a task kept dying, or no node can hold one.
    """
    environment = {"versions": dict(job.versions), "source": source_digest}
    discard_stale_build(job, plan, canonical_json(environment), lease, parallelism)
    found = sound_shards(job.target, finished_shards(job.target, plan), parallelism)
    log.info("render_started num_shards=%d num_finished=%d", len(plan), len(found))
    built = _Built(plan, found.values())
    _refuse_if_too_many(job.target, built, max_rejects)
    progress(built.num_images, built.total, built.note)
    todo = [planned for planned in plan if planned.path not in found]
    # Largest first: the last task to end decides when all is done.
    todo.sort(key=lambda planned: len(planned.members), reverse=True)
    tasks = run_tasks(
        render_in_task,
        job,
        todo,
        what="a render task",
        name_of=attrgetter("path"),
        parallelism=parallelism,
        remedy=FEWER_AT_A_TIME,
        cpus=cpus_for_each([len(planned.members) for planned in todo], parallelism),
        with_cpus=_with_threads,
    )
    for receipt in tasks:
        built.add(receipt)
        progress(built.num_images, built.total, built.note)
        _refuse_if_too_many(job.target, built, max_rejects)
    lease.delete(job.target, REFUSED)
    return built.in_order()


def render_in_task(job: RenderJob, planned: PlannedShard) -> ShardReceipt:
    """Render one shard in a process that does nothing else, faster (docs/experiments.md).

    Raises:
        ServiceError: this node has other libraries than the process that builds.
    """
    refuse_other_versions(job.versions)
    keep_memory(KEPT_BYTES)
    return render_shard(job, planned)


def _with_threads(job: RenderJob, threads: int) -> RenderJob:
    return replace(job, threads=threads)


class _Built:
    """The shards of a plan that are there, with sums that are kept: there may be 20,000."""

    def __init__(self, plan: Sequence[PlannedShard], receipts: Iterable[ShardReceipt]) -> None:
        self._plan = plan
        self._receipts: dict[str, ShardReceipt] = {}
        self._num_rejects = 0
        self.num_images = 0
        """Of finished shards, rejects among them."""
        self.total = sum(len(planned.members) for planned in plan)
        for receipt in receipts:
            self.add(receipt)

    def add(self, receipt: ShardReceipt) -> None:
        self._receipts[receipt.shard.path] = receipt
        self._num_rejects += len(receipt.rejects)
        self.num_images += receipt.shard.stop - receipt.shard.start

    @property
    def are_all(self) -> bool:
        return len(self._receipts) == len(self._plan)

    @property
    def note(self) -> str:
        return f"{len(self._receipts)}/{len(self._plan)} shards, {self._num_rejects} rejects"

    def in_order(self) -> list[ShardReceipt]:
        """Return the receipts there are, in the plan's order."""
        there = (self._receipts.get(planned.path) for planned in self._plan)
        return [receipt for receipt in there if receipt is not None]

    def has_too_many(self, max_rejects: int) -> bool:
        return are_too_many(self._num_rejects, self.total, max_rejects, are_all=self.are_all)


def _refuse_if_too_many(target: ObjectStore, built: _Built, max_rejects: int) -> None:
    if built.has_too_many(max_rejects):
        rejects = [reject for receipt in built.in_order() for reject in receipt.rejects]
        refuse_build(target, rejects, max_rejects, are_all=built.are_all)
