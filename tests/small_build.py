"""A build of six images in three shards; and builds whose tasks run in the test's own process."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pytest
from jpeg_archives import make_jpeg

from infra.lease import Lease
from infra.progress import no_progress
from infra.store import MemoryStore
from preprocessing.building import execute, resume
from preprocessing.building.execute import render_shards
from preprocessing.building.plan import PlannedShard, plan_split
from preprocessing.building.render import RenderJob, ShardReceipt
from preprocessing.dataset.labels import make_classes
from preprocessing.settings import PrepareSettings
from preprocessing.sources.members import Member, Members

Plan = tuple[PlannedShard, ...]


def job_of(target: Any, source: Any) -> tuple[RenderJob, Plan]:
    """Write the images to a source, and plan their build at a target."""
    bodies = [make_jpeg(i) for i in range(6)]
    source.write("a.tar", b"".join(bodies))
    start, members = 0, []
    for i, body in enumerate(bodies):
        members.append(Member("train", "a.tar", f"{i}.jpg", start, len(body), "a"))
        start += len(body)
    job = RenderJob(
        source=source,
        target=target,
        classes=make_classes({"a": "a"}),
        options=PrepareSettings(stored_px=16, quality=95, rows_per_group=2, rows_per_shard=2),
    )
    table = pa.Table.from_pylist([asdict(member) for member in members], Members.schema())
    return job, plan_split(Members(table), "train", seed=0, rows_per_shard=2)


def render(job: RenderJob, plan: Plan, source_digest: str, **changes: Any) -> list[ShardReceipt]:
    """Render its shards, one at a time; return their receipts."""
    options: dict[str, Any] = {"max_rejects": 0, "parallelism": 1, "progress": no_progress}
    options["lease"] = Lease(job.target, 1)
    return render_shards(job, plan, source_digest=source_digest, **options | changes)


def spoil(source: MemoryStore, planned: PlannedShard) -> None:
    """Make the first image of a shard none."""
    member = next(iter(planned.members))
    body = bytearray(source.read(member.archive))
    body[member.start : member.start + 2] = b"no"
    source.write(member.archive, bytes(body))


def run_here(
    work: Callable[[Any, Any], Any], shared: Any, items: Sequence[Any], **_: Any
) -> Generator[Any, None, None]:
    """Do as `run_tasks` does, without Ray: one item after the other."""
    for item in items:
        yield work(shared, item)


def build_without_ray(monkeypatch: pytest.MonkeyPatch, run: Any = run_here) -> None:
    """Have builds run their tasks so."""
    for module in (execute, resume):
        monkeypatch.setattr(module, "run_tasks", run)
    monkeypatch.setattr(execute, "cpus_for_each", lambda sizes, _: [1] * len(sizes))
