"""Stage 4 of 11, render over Ray: one task a shard, resumed at the shard.

Also the one place where work of any kind is done a shard a task. Ray is up already; what it books
and how many tasks run at a time never changes a byte.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from infra.allocator import keep_memory
from infra.canonical import canonical_json
from infra.commit import read_receipt
from infra.errors import LeaseLost, ServiceError
from infra.lease import FOLDER as LEASES
from infra.parquet import parquet_bytes
from infra.progress import NotedReport
from infra.ray_runtime import cluster_resources, lost_work_named
from infra.store import ObjectStore
from preprocessing.building.commit import REFUSED, check_rejects, rejects_table
from preprocessing.building.digests import damage_of
from preprocessing.building.identity import FOLDER as SOURCES
from preprocessing.building.plan import PlannedShard
from preprocessing.building.render import RenderJob, ShardReceipt, encoder_versions, render_shard
from preprocessing.dataset.manifest import MANIFEST, MEMBERS
from preprocessing.errors import ManifestError

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")

ENVIRONMENT: Final = "_build/environment.json"
ROOM_S: Final = 300.0
"""How long tasks wait for a node that can hold one; a lost node is back, or replaced, by then."""
LOOK_S: Final = 10.0
HOPELESS_SHARE: Final = 0.05
"""Of all images: with more rejects, and more than FEW, this is not what was meant to be built."""
FEW: Final = 100
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
) -> list[ShardReceipt]:
    """Render the shards of a plan that are not there yet; return every receipt, in plan order.

    Args:
        source_digest: identity of the archives; a half-built dataset of others starts anew.
        parallelism: shards at a time; None: as many as the cluster has CPUs.

    Raises:
        TooManyRejects: more than max_rejects; at the end, so that all are known, unless there are
            so many that it is hopeless. `REFUSED` lists them then.
        LeaseLost: another process committed this dataset, with other versions or archives.
        ManifestError: all is there but the manifest, made with other versions or archives.
        ProjectError: whatever deliberate error a task ended with.
        ServiceError: a task kept dying, or no node can hold one.
    """
    environment = {"versions": encoder_versions(), "source": source_digest}
    _start_anew_unless(job.target, plan, canonical_json(environment))
    done = _sound(job.target, finished_shards(job.target, plan), parallelism)
    log.info("render_started num_shards=%d num_finished=%d", len(plan), len(done))
    _check(job.target, plan, done, max_rejects)
    total = sum(len(planned.members) for planned in plan)
    progress(_num_images(done), total, _note(done, plan))
    todo = [planned for planned in plan if planned.path not in done]
    tasks = run_tasks(render_in_task, job, todo, what="a render task", parallelism=parallelism)
    for receipt in tasks:
        done[receipt.shard.path] = receipt
        progress(_num_images(done), total, _note(done, plan))
        _check(job.target, plan, done, max_rejects)
    job.target.delete(REFUSED)
    return [done[planned.path] for planned in plan]


def render_in_task(job: RenderJob, planned: PlannedShard) -> ShardReceipt:
    """Render one shard in a process that does nothing else, faster (docs/experiments.md)."""
    keep_memory(KEPT_BYTES)
    return render_shard(job, planned)


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
    found: dict[str, ShardReceipt] = {}
    for planned in plan:
        if planned.receipt_path not in keys:
            continue
        try:
            receipt = ShardReceipt.model_validate_json(target.read(planned.receipt_path))
        except ValidationError:
            continue
        shard = receipt.shard
        if (shard.path, shard.start, shard.stop) == (planned.path, planned.start, planned.stop):
            found[planned.path] = receipt
    return found


def run_tasks(
    work: Callable[[Shared, Item], Result],
    shared: Shared,
    items: Sequence[Item],
    *,
    what: str,
    parallelism: int | None,
) -> Iterator[Result]:
    """Yield `work(shared, item)` of each item as tasks finish, in any order; few are in flight.

    Args:
        what: one task's name, for the error when it dies.
        parallelism: tasks at a time; None: as many as the cluster has CPUs.

    Raises:
        ProjectError: whatever deliberate error a task ended with.
        ServiceError: a task kept dying, or no node has been able to hold one for ROOM_S.
    """
    import ray

    cpus = max(1, int(cluster_resources().cpus))
    limit = parallelism or cpus
    num_cpus = 1 if limit <= cpus else 0.5
    task = ray.remote(num_cpus=num_cpus)(work)
    at_hand = ray.put(shared)
    waiting = deque(items)
    running: list[Any] = []
    had_room_at = time.monotonic()
    # What still runs when the caller stops early is not cancelled: Ray 2.60 ends this process when
    # a task finishes just then ("Tried to complete task that was not pending"; 3 of 12 interrupts).
    # It writes whole objects that the next run takes up, or ends with this process.
    while waiting or running:
        while waiting and len(running) < limit:
            running.append(task.remote(at_hand, waiting.popleft()))
        finished, running = ray.wait(running, num_returns=1, timeout=LOOK_S)
        if finished:
            yield _result(finished[0], what)
        elif not _has_room(num_cpus):
            # Ray would wait for ever: nodes may come back, and it says nothing.
            if time.monotonic() - had_room_at > ROOM_S:
                raise ServiceError(
                    f"no node of the cluster has the {num_cpus:g} CPU that {what} needs",
                    remedy="bring nodes back (see `ray status`), then run again: it goes on",
                )
            continue
        had_room_at = time.monotonic()


def _has_room(num_cpus: float) -> bool:
    return any(node.cpus >= num_cpus for node in cluster_resources().nodes)


def _result(reference: Any, what: str) -> Any:  # noqa: ANN401 - Ray ships no types
    import ray

    with lost_work_named(
        what, remedy="see Ray's logs; lower prepare.parallelism if it ran out of memory"
    ):
        return ray.get(reference)


def _sound(
    target: ObjectStore, finished: dict[str, ShardReceipt], parallelism: int | None
) -> dict[str, ShardReceipt]:
    """Keep the finished shards whose files have the receipts' bytes; the others are made anew."""
    if not finished:
        return {}
    what, receipts = "a check", list(finished.values())
    tasks = run_tasks(_checked, target, receipts, what=what, parallelism=parallelism)
    damage = {path: found for path, found in tasks if found is not None}
    for path, found in damage.items():
        log.warning("finished_shard_damaged uri=%s path=%s problem=%s", target.uri, path, found)
    return {path: receipt for path, receipt in finished.items() if path not in damage}


def _checked(target: ObjectStore, receipt: ShardReceipt) -> tuple[str, str | None]:
    files = (receipt.shard, receipt.sums)
    damage = (f"{item.path} {found}" for item in files if (found := damage_of(target, item)))
    return receipt.shard.path, next(damage, None)


def _start_anew_unless(
    target: ObjectStore, plan: Sequence[PlannedShard], environment: bytes
) -> None:
    """Delete what other library versions, or other archives, have half built.

    Raises:
        LeaseLost: it is committed by now.
        ManifestError: it was whole: a dataset that lost its manifest is not a half-built one.
    """
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
    if found is not None:
        if _was_whole(target, there, plan):
            raise ManifestError(
                f"{target.uri} had all its shards and lacks {MANIFEST}; it was made with"
                f" {found.decode(errors='replace')}; here it would be {environment.decode()}",
                remedy=f"restore {MANIFEST} from a copy; or run again with the libraries and the"
                " archives it was made with (their times count); or delete that folder to make it"
                " anew: it then may have another fingerprint",
            )
        log.warning(
            "half_built_dataset_started_anew uri=%s was=%s now=%s",
            target.uri,
            found.decode(errors="replace"),
            environment.decode(),
        )
        # The environment goes last: a kill on the way must not leave shards that the next run takes
        # for its own.
        for key in sorted(there, key=lambda key: key == ENVIRONMENT):
            target.delete(key)
    target.write(ENVIRONMENT, environment)


def _was_whole(target: ObjectStore, there: Collection[str], plan: Sequence[PlannedShard]) -> bool:
    """Tell whether there was all of a dataset once, even if a shard is damaged by now."""
    if REFUSED in there:  # of images that somebody may have replaced since
        return False
    # Both are written when every shard is finished.
    if MEMBERS in there or any(key.startswith(SOURCES) for key in there):
        return True
    return len(finished_shards(target, plan)) == len(plan)


def _check(
    target: ObjectStore,
    plan: Sequence[PlannedShard],
    done: dict[str, ShardReceipt],
    max_rejects: int,
) -> None:
    """Refuse too many rejects: with every shard done, or when they are hopelessly many before."""
    rejects = [r for shard in plan if shard.path in done for r in done[shard.path].rejects]
    are_all = len(done) == len(plan)
    hopeless = max(FEW, int(HOPELESS_SHARE * sum(len(shard.members) for shard in plan)))
    if len(rejects) > (max_rejects if are_all else max(max_rejects, hopeless)):
        target.write(REFUSED, parquet_bytes(rejects_table(rejects)))
        listed_in = f"{target.uri}/{REFUSED}"
        check_rejects(rejects, max_rejects, listed_in=listed_in, are_all=are_all)


def _note(done: dict[str, ShardReceipt], plan: Sequence[PlannedShard]) -> str:
    rejects = sum(len(receipt.rejects) for receipt in done.values())
    return f"{len(done)}/{len(plan)} shards, {rejects} rejects"


def _num_images(done: dict[str, ShardReceipt]) -> int:
    return sum(receipt.shard.stop - receipt.shard.start for receipt in done.values())
