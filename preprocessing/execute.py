"""Stage 4 of 11, render over Ray: one task a shard, resumed at the shard.

Ray is up already; what it books and how many tasks run at a time never changes a byte.
"""

import logging
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any, Final

from pydantic import ValidationError

from infra.canonical import canonical_json
from infra.commit import read_receipt
from infra.lease import FOLDER as LEASES
from infra.progress import ProgressReport
from infra.ray_runtime import cluster_resources, lost_work_named
from infra.store import ObjectStore
from preprocessing.commit import check_rejects
from preprocessing.plan import PlannedShard
from preprocessing.render import RenderJob, ShardReceipt, encoder_versions, render_shard

ENVIRONMENT: Final = "_build/environment.json"

log = logging.getLogger(__name__)


def render_shards(
    job: RenderJob,
    plan: Sequence[PlannedShard],
    *,
    source_digest: str,
    max_rejects: int,
    parallelism: int | None,
    progress: ProgressReport,
) -> list[ShardReceipt]:
    """Render the shards of a plan that are not there yet; return every receipt, in plan order.

    Args:
        source_digest: identity of the archives; a half-built dataset of others starts anew.
        parallelism: shards at a time; None: as many as the cluster has CPUs.

    Raises:
        TooManyRejects: as soon as more than max_rejects are known.
        ProjectError: whatever deliberate error a task ended with.
        ServiceError: a task kept dying.
    """
    environment = {"versions": encoder_versions(), "source": source_digest}
    _start_anew_unless(job.target, canonical_json(environment))
    done = finished_shards(job.target, plan)
    log.info("render_started num_shards=%d num_finished=%d", len(plan), len(done))
    _check(done, max_rejects)
    total = sum(len(planned.members) for planned in plan)
    progress(_num_images(done), total)
    todo = [planned for planned in plan if planned.path not in done]
    with closing(_run_tasks(job, todo, parallelism)) as receipts:
        for receipt in receipts:
            done[receipt.shard.path] = receipt
            progress(_num_images(done), total)
            _check(done, max_rejects)
    return [done[planned.path] for planned in plan]


def finished_shards(target: ObjectStore, plan: Sequence[PlannedShard]) -> dict[str, ShardReceipt]:
    """Find the shards, by path, whose receipt exists and whose files have the receipt's sizes."""
    sizes = {info.key: info.size_bytes for info in target.list()}
    found: dict[str, ShardReceipt] = {}
    for planned in plan:
        if planned.receipt_path not in sizes:
            continue
        try:
            receipt = ShardReceipt.model_validate_json(target.read(planned.receipt_path))
        except ValidationError:
            continue
        if all(sizes.get(item.path) == item.size_bytes for item in (receipt.shard, receipt.sums)):
            found[planned.path] = receipt
    return found


def _start_anew_unless(target: ObjectStore, environment: bytes) -> None:
    """Delete what other library versions, or other archives, have half built."""
    found = read_receipt(target, ENVIRONMENT)
    if found == environment:
        return
    if found is not None:
        log.warning(
            "half_built_dataset_started_anew uri=%s was=%s now=%s",
            target.uri,
            found.decode(errors="replace"),
            environment.decode(),
        )
        # The leases stay, ours is among them. The environment goes last: a kill on the way must not
        # leave shards that the next run takes for its own.
        half_built = [info.key for info in target.list() if not info.key.startswith(LEASES)]
        for key in sorted(half_built, key=lambda key: key == ENVIRONMENT):
            target.delete(key)
    target.write(ENVIRONMENT, environment)


def _check(done: dict[str, ShardReceipt], max_rejects: int) -> None:
    check_rejects([item for receipt in done.values() for item in receipt.rejects], max_rejects)


def _num_images(done: dict[str, ShardReceipt]) -> int:
    return sum(receipt.shard.stop - receipt.shard.start for receipt in done.values())


def _run_tasks(
    job: RenderJob, plan: Sequence[PlannedShard], parallelism: int | None
) -> Generator[ShardReceipt, None, None]:
    """Yield receipts as tasks finish, in any order; a bounded number is in flight."""
    import ray

    cpus = max(1, int(cluster_resources().cpus))
    limit = parallelism or cpus
    task = ray.remote(num_cpus=1 if limit <= cpus else 0.5)(render_shard)
    shared = ray.put(job)
    waiting = deque(plan)
    running: list[Any] = []
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                running.append(task.remote(shared, waiting.popleft()))
            finished, running = ray.wait(running, num_returns=1)
            yield _result(finished[0])
    finally:
        for reference in running:
            ray.cancel(reference)


def _result(reference: Any) -> ShardReceipt:  # noqa: ANN401 - Ray ships no types
    import ray

    with lost_work_named(
        "a render task",
        remedy="see Ray's logs; lower prepare.parallelism if it ran out of memory",
    ):
        return ray.get(reference)
