"""Rendering over Ray when things go wrong: kills on the way, and tasks that die."""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from small_build import build_without_ray, job_of, render, spoil

from infra.errors import ObjectCorrupt, ServiceError
from infra.store import FolderStore, MemoryStore
from preprocessing.building import execute, refusal
from preprocessing.building.commit import commit_dataset
from preprocessing.building.plan import PlannedShard
from preprocessing.building.refusal import REFUSED, read_refused
from preprocessing.building.render import RENDERED_ANEW, RenderJob, render_shard
from preprocessing.building.resume import finished_shards
from preprocessing.errors import TooManyRejects


class TestRefusing:
    @pytest.fixture(autouse=True)
    def without_ray(self, monkeypatch: pytest.MonkeyPatch) -> None:
        build_without_ray(monkeypatch)
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
        monkeypatch.setattr(refusal, "FEW", 0)
        spoil(source, plan[1])
        with pytest.raises(TooManyRejects, match="at least 1 image cannot be used"):
            render(job, plan, "source")
        assert sorted(finished_shards(store, plan)) == [planned.path for planned in plan[:2]]
        assert len(read_refused(store)) == 1
        monkeypatch.setattr(refusal, "HOPELESS_SHARE", 0.2)
        with pytest.raises(TooManyRejects, match=r"^1 image cannot be used"):
            render(job, plan, "source")

    def test_rejects_that_are_allowed_are_never_hopeless(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job, plan = job_of(MemoryStore(), source := MemoryStore())
        monkeypatch.setattr(refusal, "FEW", 0)
        for planned in plan:
            spoil(source, planned)
        render(job, plan, "source", max_rejects=3)


def test_the_largest_shard_comes_first_and_each_has_its_cpus_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job, plan = job_of(MemoryStore(), MemoryStore())
    small = replace(plan[0], members=plan[0].members.take([0]))
    seen: list[Any] = []

    def run(
        work: Any, shared: Any, items: Any, *, cpus: Any, with_cpus: Any, **_: Any
    ) -> Iterator[Any]:
        threads = [with_cpus(shared, each).threads for each in cpus]
        seen[:] = [[planned.path for planned in items], cpus, threads]
        return iter(())

    build_without_ray(monkeypatch, run)
    monkeypatch.setattr(
        execute, "cpus_for_each", lambda sizes, parallelism: [size + parallelism for size in sizes]
    )
    render(job, (small, *plan[1:]), "source")
    assert seen == [[plan[1].path, plan[2].path, small.path], [3, 3, 2], [3, 3, 2]]


def test_sums_damaged_before_the_commit_cost_one_shard_when_it_is_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build_without_ray(monkeypatch)
    job, plan = job_of(store := MemoryStore(), MemoryStore())
    receipts = render(job, plan, "source")
    store.write(receipts[1].sums.path, b"damaged")
    with pytest.raises(ObjectCorrupt, match=receipts[1].sums.path) as caught:
        commit_dataset(job, plan, receipts, name="d", key="0" * 64, max_rejects=0)
    assert caught.value.remedy == RENDERED_ANEW
    before = {info.key: info.version for info in store.list("train/")}
    receipts = render(job, plan, "source")
    after = {info.key: info.version for info in store.list("train/")}
    assert [key for key in after if after[key] != before[key]] == [plan[1].path]
    commit_dataset(job, plan, receipts, name="d", key="0" * 64, max_rejects=0)


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
        died = rf"a render task \({plan[0].path}\) kept dying"
        with pytest.raises(ServiceError, match=died) as caught:
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

    def test_shards_are_compared_with_archives_that_look_changed(
        self, workspace: FolderStore
    ) -> None:
        job, plan = job_of(target := workspace.child("to"), workspace.child("from"))
        render(job, plan, "before")
        target.delete(plan[0].receipt_path)
        before = {info.key: info.version for info in target.list("train/")}
        render(job, plan, "after")
        after = {info.key: info.version for info in target.list("train/")}
        assert [key for key in after if after[key] != before[key]] == [plan[0].path]

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

    render(job, plan, "source", progress=report)
    shards = [(2 * done, 6, f"{done}/3 shards, 0 rejects") for done in range(4)]
    assert told == shards
