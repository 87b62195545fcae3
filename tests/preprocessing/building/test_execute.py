"""Rendering over Ray when things go wrong: kills on the way, and tasks that die."""

import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from jpeg_archives import make_jpeg

from infra.errors import LeaseLost, ServiceError
from infra.progress import no_progress
from infra.ray_runtime import Node, Resources
from infra.store import FolderStore, MemoryStore
from preprocessing.building import execute
from preprocessing.building.commit import REFUSED, read_refused
from preprocessing.building.execute import (
    ENVIRONMENT,
    finished_shards,
    render_in_task,
    render_shards,
    run_tasks,
)
from preprocessing.building.plan import PlannedShard, plan_split
from preprocessing.building.render import RenderJob, render_shard
from preprocessing.dataset.labels import make_classes
from preprocessing.dataset.manifest import MANIFEST, MEMBERS
from preprocessing.errors import ManifestError, TooManyRejects
from preprocessing.settings import PrepareSettings
from preprocessing.sources.members import Member, Members

LEASE = "lease/0001.json"


def job_of(target: Any, source: Any) -> tuple[RenderJob, tuple[PlannedShard, ...]]:
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


def render(
    job: RenderJob, plan: tuple[PlannedShard, ...], source_digest: str, max_rejects: int = 0
) -> None:
    render_shards(
        job,
        plan,
        source_digest=source_digest,
        max_rejects=max_rejects,
        parallelism=1,
        progress=no_progress,
    )


class Killed(BaseException):
    pass


class Mortal(MemoryStore):
    """Dies at a deletion."""

    deletions_left = 0

    def delete(self, key: str) -> None:
        if not self.deletions_left:
            raise Killed
        self.deletions_left -= 1
        super().delete(key)


@pytest.mark.parametrize("deletions", range(7))
def test_a_kill_while_starting_anew_leaves_nothing_to_reuse(
    deletions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Mortal()
    job, plan = job_of(store, MemoryStore())
    for planned in plan[:2]:
        render_shard(job, planned)
    store.write(ENVIRONMENT, b"another")
    store.write(LEASE, b"mine")
    assert len(finished_shards(store, plan)) == 2
    monkeypatch.setattr(execute, "run_tasks", reused := Tasks())
    store.deletions_left = deletions
    with pytest.raises(Killed):
        render(job, plan, "new")
    store.deletions_left = 100
    with pytest.raises(Killed):
        render(job, plan, "new")
    assert reused.todo == [planned.path for planned in plan]
    assert store.read(LEASE) == b"mine"


@pytest.mark.parametrize("environment", [b"another", None])
def test_what_another_process_committed_meanwhile_is_not_deleted(environment: bytes | None) -> None:
    store = MemoryStore()
    job, plan = job_of(store, MemoryStore())
    for planned in plan:
        render_shard(job, planned)
    store.write(MANIFEST, b"its")
    if environment is not None:
        store.write(ENVIRONMENT, environment)
    before = {info.key: store.read(info.key) for info in store.list()}
    with pytest.raises(LeaseLost, match="another process committed this dataset") as caught:
        render(job, plan, "new")
    assert "run the same command again" in caught.value.remedy
    assert {info.key: store.read(info.key) for info in store.list()} == before


@pytest.mark.parametrize("sign", ["all shards", MEMBERS, f"sources/{'0' * 64}.json"])
def test_a_whole_dataset_that_lost_its_manifest_is_not_deleted(sign: str) -> None:
    store = MemoryStore()
    job, plan = job_of(store, MemoryStore())
    for planned in plan if sign == "all shards" else plan[1:]:
        render_shard(job, planned)
    if sign != "all shards":
        store.write(sign, b"")
    store.write(ENVIRONMENT, b"another")
    before = {info.key: store.read(info.key) for info in store.list()}
    with pytest.raises(ManifestError, match=r"with another; here it would be .*new") as caught:
        render(job, plan, "new")
    assert "restore manifest.json" in caught.value.remedy
    assert {info.key: store.read(info.key) for info in store.list()} == before


def in_this_process(work: Any, shared: Any, items: Any, **_: Any) -> Iterator[Any]:
    """In place of Ray: one item after the other."""
    return (work(shared, item) for item in items)


class TestRefusing:
    @pytest.fixture(autouse=True)
    def without_ray(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(execute, "run_tasks", in_this_process)
        monkeypatch.setattr(execute, "render_in_task", render_shard)

    def test_bad_images_of_all_shards_are_named_in_one_run(self) -> None:
        job, plan = job_of(store := MemoryStore(), source := MemoryStore())
        for planned in plan:
            spoil(source, planned)
        for _ in range(2):  # rendered, and found
            with pytest.raises(TooManyRejects, match="3 images cannot be used, 0") as caught:
                render(job, plan, "source")
            bad = [planned.members.names()[0] for planned in plan]
            assert all(f"{name}: " in caught.value.problem for name in bad)
            assert f"{store.uri}/{REFUSED}" in caught.value.problem
            assert [reject.member for reject in read_refused(store)] == bad
        render(job, plan, "source", max_rejects=3)
        assert read_refused(store) == []

    def test_after_a_refusal_other_archives_start_anew(self) -> None:
        """Bad images are replaced: size and key stay, the archive's version does not."""
        job, plan = job_of(store := MemoryStore(), source := MemoryStore())
        whole = source.read(next(iter(plan[0].members)).archive)
        spoil(source, plan[0])
        with pytest.raises(TooManyRejects):
            render(job, plan, "source")
        assert len(finished_shards(store, plan)) == len(plan)
        source.write(next(iter(plan[0].members)).archive, whole)
        render(job, plan, "mended")
        assert read_refused(store) == []

    def test_when_it_is_hopeless_the_rest_is_not_rendered(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job, plan = job_of(store := MemoryStore(), source := MemoryStore())
        monkeypatch.setattr(execute, "FEW", 0)
        spoil(source, plan[1])
        with pytest.raises(TooManyRejects, match="at least 1 image cannot be used"):
            render(job, plan, "source")
        assert sorted(finished_shards(store, plan)) == [planned.path for planned in plan[:2]]
        assert len(read_refused(store)) == 1
        monkeypatch.setattr(execute, "HOPELESS_SHARE", 0.2)
        with pytest.raises(TooManyRejects, match=r"^1 image cannot be used"):
            render(job, plan, "source")

    def test_rejects_that_are_allowed_are_never_hopeless(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job, plan = job_of(MemoryStore(), source := MemoryStore())
        monkeypatch.setattr(execute, "FEW", 0)
        for planned in plan:
            spoil(source, planned)
        render(job, plan, "source", max_rejects=3)


def spoil(source: MemoryStore, planned: PlannedShard) -> None:
    """Make the first image of a shard none."""
    member = next(iter(planned.members))
    body = bytearray(source.read(member.archive))
    body[member.start : member.start + 2] = b"no"
    source.write(member.archive, bytes(body))


class Tasks:
    """In place of Ray: finds what is finished sound, notes what is left to render, and dies."""

    todo: list[str]

    def __call__(self, work: Any, shared: Any, items: Any, **_: Any) -> Any:
        if work is not render_in_task:
            return ((receipt.shard.path, None) for receipt in items)
        self.todo = [planned.path for planned in items]
        raise Killed


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
class TestTasks:
    def test_one_that_keeps_dying_is_named_with_a_remedy(
        self, workspace: FolderStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(job: RenderJob, planned: PlannedShard) -> None:
            os._exit(1)

        monkeypatch.setattr(execute, "render_in_task", die)
        job, plan = job_of(workspace.child("to"), workspace.child("from"))
        with pytest.raises(ServiceError, match="kept dying") as caught:
            render(job, plan, "source")
        assert "prepare.parallelism" in caught.value.remedy

    def test_a_finished_shard_of_other_bytes_is_made_anew(
        self, workspace: FolderStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        job, plan = job_of(target := workspace.child("to"), workspace.child("from"))
        render(job, plan, "source")
        whole = {info.key: target.read(info.key) for info in target.list()}
        before = {info.key: info.version for info in target.list()}
        sums = plan[2].receipt_path.removesuffix(".json") + ".safetensors"
        for key in (plan[0].path, sums):
            body = whole[key]
            target.write(key, body[:40] + bytes([body[40] ^ 1]) + body[41:])
        render(job, plan, "source")
        assert {info.key: target.read(info.key) for info in target.list()} == whole
        after = {info.key: info.version for info in target.list()}
        again = {planned.path for planned in plan if after[planned.path] != before[planned.path]}
        assert again == {plan[0].path, plan[2].path}
        assert caplog.text.count("finished_shard_damaged") == 2

    @pytest.mark.parametrize("cpus", [0.0, 1.0])
    def test_only_where_no_node_can_hold_one_they_are_not_waited_for(
        self, cpus: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def wait_for(gate: Path, number: int) -> int:
            while not gate.exists():
                time.sleep(0.05)
            return number

        looks = iter(range(6))

        def cluster() -> Resources:
            if next(looks, None) is None:
                (tmp_path / "gate").touch()
            return Resources((Node(0.0, 0.0), Node(cpus, 0.0)), 0.0)

        monkeypatch.setattr(execute, "cluster_resources", cluster)
        monkeypatch.setattr(execute, "ROOM_S", 0.1)
        monkeypatch.setattr(execute, "LOOK_S", 0.1)
        tasks = run_tasks(wait_for, tmp_path / "gate", [7], what="a check", parallelism=None)
        if cpus:
            assert list(tasks) == [7]
            return
        with pytest.raises(ServiceError, match="has the 1 CPU that a check needs") as caught:
            list(tasks)
        assert "ray status" in caught.value.remedy
        (tmp_path / "gate").touch()

    def test_a_bug_in_one_is_raised_as_it_is(
        self, workspace: FolderStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(job: RenderJob, planned: PlannedShard) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(execute, "render_in_task", fail)
        job, plan = job_of(workspace.child("to"), workspace.child("from"))
        with pytest.raises(ZeroDivisionError):
            render(job, plan, "source")


@pytest.mark.usefixtures("ray_local")
def test_progress_tells_shards_and_rejects_from_first_to_last(workspace: FolderStore) -> None:
    job, plan = job_of(workspace.child("target"), workspace.child("source"))
    told: list[tuple[int, int, str]] = []

    def report(done: int, total: int, note: str = "") -> None:
        told.append((done, total, note))

    render_shards(job, plan, source_digest="s", max_rejects=0, parallelism=1, progress=report)
    shards = [(2 * done, 6, f"{done}/3 shards, 0 rejects") for done in range(4)]
    assert told == shards
