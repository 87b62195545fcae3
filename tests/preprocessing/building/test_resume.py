from dataclasses import replace
from typing import Any

import pytest
from small_build import build_without_ray, job_of, render, spoil

from infra.errors import LeaseLost
from infra.store import MemoryStore
from preprocessing.building import execute
from preprocessing.building.execute import render_in_task
from preprocessing.building.plan import PlannedShard
from preprocessing.building.render import RenderJob, ShardReceipt, render_shard
from preprocessing.building.resume import ENVIRONMENT, finished_shards
from preprocessing.dataset.manifest import MANIFEST, MEMBERS
from preprocessing.errors import ManifestError

LEASE = "lease/0001.json"


class Tasks:
    """In place of Ray: finds what is finished sound, notes what is left to render, and dies."""

    todo: list[str]

    def __call__(self, work: Any, shared: Any, items: Any, **_: Any) -> Any:
        if work is not render_in_task:
            return ((receipt.shard.path, None) for receipt in items)
        self.todo = [planned.path for planned in items]
        raise Killed


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
    build_without_ray(monkeypatch, reused := Tasks())
    store.deletions_left = deletions
    with pytest.raises(Killed):
        render(job, plan, "new")
    store.deletions_left = 100
    with pytest.raises(Killed):
        render(job, plan, "new")
    assert reused.todo == [planned.path for planned in plan]
    assert store.read(LEASE) == b"mine"


def change_an_image(source: MemoryStore, planned: PlannedShard) -> None:
    """Change a byte of a shard's first image: it is an image still."""
    member = next(iter(planned.members))
    body = source.read(member.archive)
    at = member.start + member.size_bytes - 3  # before the end of the image
    source.write(member.archive, body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])


def check_like_a_quiet_build(job: RenderJob, plan: list[PlannedShard]) -> None:
    render(replace(job, target=(quiet := MemoryStore())), plan, "after")
    for info in quiet.list():
        assert job.target.read(info.key) == quiet.read(info.key), info.key


class TestArchivesThatLookChanged:
    """Touched, copied back, or in part replaced: each shard knows its members' digests."""

    @pytest.fixture(autouse=True)
    def rendered(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Paths of the shards that are rendered, without Ray."""
        paths: list[str] = []

        def note_and_render(job: RenderJob, planned: PlannedShard) -> ShardReceipt:
            paths.append(planned.path)
            return render_shard(job, planned)

        build_without_ray(monkeypatch)
        monkeypatch.setattr(execute, "render_in_task", note_and_render)
        return paths

    @pytest.mark.parametrize("num_finished", [2, 3])
    def test_shards_of_the_same_bytes_are_kept(
        self, num_finished: int, rendered: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        job, plan = job_of(store := MemoryStore(), MemoryStore())
        render(job, plan, "before")
        for planned in plan[num_finished:]:
            store.delete(planned.receipt_path)
        rendered.clear()
        render(job, plan, "after")
        assert rendered == [planned.path for planned in plan[num_finished:]]
        assert b"after" in store.read(ENVIRONMENT)
        assert f"the members of {num_finished} finished shards are compared" in caplog.text
        assert f"half_built_dataset_kept num_shards={num_finished}" in caplog.text

    def test_a_shard_of_other_bytes_or_of_damaged_sums_is_made_anew(self) -> None:
        job, plan = job_of(store := MemoryStore(), source := MemoryStore())
        render(job, plan[:2], "before")
        store.write(plan[1].receipt_path.replace(".json", ".safetensors"), b"damaged")
        change_an_image(source, plan[0])
        render(job, plan, "after")
        check_like_a_quiet_build(job, plan)

    @pytest.mark.parametrize("deletions", range(4))
    def test_a_kill_meanwhile_leaves_no_shard_of_the_bytes_before(self, deletions: int) -> None:
        store = Mortal()
        store.deletions_left = 100
        job, plan = job_of(store, source := MemoryStore())
        render(job, plan[:2], "before")
        change_an_image(source, plan[0])
        store.deletions_left = deletions
        with pytest.raises(Killed):
            render(job, plan, "after")
        store.deletions_left = 100
        render(job, plan, "after")
        check_like_a_quiet_build(job, plan)

    def test_a_whole_one_without_its_manifest_is_kept_or_refused(self) -> None:
        job, plan = job_of(store := MemoryStore(), source := MemoryStore())
        render(job, plan, "before")
        store.write(MEMBERS, b"")
        spoil(source, plan[0])
        with pytest.raises(ManifestError, match=f"lacks {MANIFEST}"):
            render(job, plan, "after")
        assert len(finished_shards(store, plan)) == len(plan)


class TakenOver(MemoryStore):
    """At the first deletion another process takes the lease over."""

    def delete(self, key: str) -> None:
        self.write("lease/0002.json", b"theirs")
        super().delete(key)


def test_who_was_taken_over_while_starting_anew_deletes_no_more() -> None:
    store = TakenOver()
    job, plan = job_of(store, MemoryStore())
    for planned in plan[:2]:
        render_shard(job, planned)
    store.write(ENVIRONMENT, b"another")
    store.write(LEASE, b"mine")
    before = {info.key for info in store.list()}
    with pytest.raises(LeaseLost, match="took this work over"):
        render(job, plan, "new")
    assert len(before - {info.key for info in store.list()}) == 1
    assert store.read(ENVIRONMENT) == b"another"


def test_who_was_taken_over_does_not_say_what_another_builds_with() -> None:
    """A third, with the libraries of the first, would take the second's shards for its own."""
    store = MemoryStore()
    job, plan = job_of(store, MemoryStore())
    store.write("lease/0002.json", b"theirs")
    with pytest.raises(LeaseLost):
        render(job, plan, "new")
    assert store.stat(ENVIRONMENT) is None


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


def test_shards_of_which_nothing_says_what_made_them_are_not_built_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    job, plan = job_of(store, MemoryStore())
    for planned in plan[:2]:
        render_shard(job, planned)
    build_without_ray(monkeypatch, reused := Tasks())
    with pytest.raises(Killed):
        render(job, plan, "new")
    assert reused.todo == [planned.path for planned in plan]
    assert [info.key for info in store.list()] == [ENVIRONMENT]
    assert f"started_anew uri={store.uri} was=unknown, {ENVIRONMENT} is missing" in caplog.text


def test_a_whole_dataset_of_which_nothing_says_what_made_it_is_not_deleted() -> None:
    store = MemoryStore()
    job, plan = job_of(store, MemoryStore())
    for planned in plan:
        render_shard(job, planned)
    before = {info.key: store.read(info.key) for info in store.list()}
    with pytest.raises(ManifestError, match=f"lacks {MANIFEST}, and {ENVIRONMENT}") as caught:
        render(job, plan, "new")
    assert "delete that folder" in caught.value.remedy
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
