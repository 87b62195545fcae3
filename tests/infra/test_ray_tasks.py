import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from infra import ray_tasks
from infra.errors import ServiceError
from infra.ray_runtime import Node, Resources
from infra.ray_tasks import BEYOND_CPUS, _Tasks, cpus_for_each, run_tasks
from infra.retry import RetryPolicy, retried_so_far

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


def wait_for(gate: Path, number: int) -> int:
    while not gate.exists():
        time.sleep(0.05)
    return number


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """Tasks of `wait_for` end when this file is there."""
    yield tmp_path / "gate"
    (tmp_path / "gate").touch()


def numbers(gate: Path, count: int, parallelism: int | None = None) -> Iterator[int]:
    return run_tasks(
        wait_for,
        gate,
        range(count),
        what="a check",
        name_of="number {}".format,
        parallelism=parallelism,
        remedy="none",
    )


def fail_once(_: None, kind: str) -> None:
    """As a task whose store was away for a moment."""
    tries: list[int] = []

    def work() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise TimeoutError

    policy = RetryPolicy(first_wait_s=0.01)
    policy.call(work, what=f"{kind} x", is_transient=lambda error: True)


def test_what_tasks_tried_again_counts_here() -> None:
    before = retried_so_far()
    kinds = ["read", "write", "read"]
    done = run_tasks(
        fail_once, None, kinds, what="a check", name_of=str, parallelism=2, remedy="none"
    )
    assert list(done) == [None] * 3
    found = retried_so_far() - before
    assert found.calls == {"read": 2, "write": 1}
    assert found.waited_s > 0.01


@pytest.mark.parametrize("parallelism", [None, 1, 2])
def test_every_item_has_its_result(gate: Path, parallelism: int | None) -> None:
    gate.touch()
    assert sorted(numbers(gate, 9, parallelism)) == list(range(9))
    assert list(numbers(gate, 0, parallelism)) == []


@pytest.mark.parametrize(
    ("num_items", "parallelism", "shared", "expected"),
    [
        (3, None, False, 5),
        (3, 8, False, 2),
        (3, 40, False, 5),
        (16, None, False, 1),
        (400, None, False, 1),
        (0, None, False, 1),
        (3, None, True, 1),
    ],
)
def test_of_fewer_tasks_than_cpus_each_has_several_where_nobody_else_works(
    num_items: int,
    parallelism: int | None,
    shared: bool,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resources = Resources((Node(16.0, 0.0),), 0.0, shared=shared)
    monkeypatch.setattr(ray_tasks, "cluster_resources", lambda: resources)
    assert cpus_for_each([7] * num_items, parallelism) == [expected] * num_items


@pytest.mark.parametrize("cpus", [0.0, 1.0])
def test_only_where_no_node_can_hold_one_they_are_not_waited_for(
    cpus: float, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(6))

    def cluster() -> Resources:
        if next(looks, None) is None:
            gate.touch()
        return Resources((Node(0.0, 0.0), Node(cpus, 0.0)), 0.0)

    monkeypatch.setattr(ray_tasks, "cluster_resources", cluster)
    monkeypatch.setattr(ray_tasks, "ROOM_S", 0.1)
    monkeypatch.setattr(ray_tasks, "LOOK_S", 0.1)
    tasks = numbers(gate, 1)
    if cpus:
        assert list(tasks) == [0]
        return
    with pytest.raises(ServiceError, match="has the 1 CPU that a check needs") as caught:
        list(tasks)
    assert "ray status" in caught.value.remedy


@pytest.mark.parametrize("parallelism", [None, 3])
def test_nodes_that_join_later_are_given_tasks(
    parallelism: int | None, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And there is always one that waits for a CPU, for an autoscaler to see."""
    cpus = [1.0]
    monkeypatch.setattr(
        ray_tasks, "cluster_resources", lambda: Resources((Node(cpus[0], 0.0),), 0.0)
    )
    monkeypatch.setattr(ray_tasks, "LOOK_S", 0.05)
    tasks = _Tasks(
        wait_for, {1: ray.put(gate)}, [(i, 1) for i in range(20)], "a check", parallelism
    )
    assert tasks.submit() == (parallelism or 1 + BEYOND_CPUS)
    cpus[0] = 4.0
    assert tasks.wait() is None
    assert tasks.submit() == (parallelism or 4 + BEYOND_CPUS)


@pytest.mark.parametrize(
    ("parallelism", "shared", "expected"),
    [(2, False, 2 + BEYOND_CPUS), (2, True, 2), (1, False, 1), (3, False, 3)],
)
def test_one_is_at_hand_where_the_cpus_bound_what_runs(
    parallelism: int, shared: bool, expected: int, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere CPUs may join, and more than were asked for would run."""
    resources = Resources((Node(2.0, 0.0),), 0.0, shared=shared)
    monkeypatch.setattr(ray_tasks, "cluster_resources", lambda: resources)
    tasks = _Tasks(
        wait_for, {1: ray.put(gate)}, [(i, 1) for i in range(20)], "a check", parallelism
    )
    assert tasks.submit() == expected


def test_no_more_cpus_are_booked_than_tasks_may_run(
    gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five equal shards, four at a time, on a machine of 16: the fifth gets four, after those."""
    resources = Resources((Node(16.0, 0.0),), 0.0)
    monkeypatch.setattr(ray_tasks, "cluster_resources", lambda: resources)
    planned = cpus_for_each([7] * 5, 4)
    assert planned == [1, 1, 1, 1, 4]
    items = list(enumerate(planned))
    shared = {cpus: ray.put(gate) for cpus in planned}
    tasks = _Tasks(wait_for, shared, items, "a check", 4)
    assert tasks.submit() == 4


def test_each_task_books_its_cpus_and_is_told_of_them() -> None:
    def booked(told: str, number: int) -> tuple[int, str, float]:
        return number, told, ray.get_runtime_context().get_assigned_resources()["CPU"]

    found = run_tasks(
        booked,
        "all",
        range(3),
        what="a check",
        name_of=str,
        parallelism=None,
        remedy="none",
        cpus=[2, 1, 1],
        with_cpus=lambda shared, cpus: f"{shared} with {cpus}",
    )
    assert sorted(found) == [(0, "all with 2", 2.0), (1, "all with 1", 1.0), (2, "all with 1", 1.0)]


def test_tasks_with_several_cpus_count_as_so_many(gate: Path) -> None:
    """Of those of all CPUs one runs and one waits, not CPUs and some more."""
    all_cpus = int(ray.cluster_resources()["CPU"])
    shared = {all_cpus: ray.put(gate)}
    tasks = _Tasks(wait_for, shared, [(i, all_cpus) for i in range(9)], "a check", None)
    assert tasks.submit() == 1 + -(-BEYOND_CPUS // all_cpus)


def test_when_none_ends_for_long_it_is_said_which_and_how_many_cpus_are_free(
    gate: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_tasks, "LOOK_S", 0.05)
    monkeypatch.setattr(ray_tasks, "QUIET_S", 0.2)
    looks = iter(range(12))

    def cluster() -> Resources:
        if next(looks, None) is None:
            gate.touch()
        return Resources((Node(2.0, 0.0),), 0.0)

    monkeypatch.setattr(ray_tasks, "cluster_resources", cluster)
    assert sorted(numbers(gate, 2)) == [0, 1]
    # Each time after twice as long, not at every look.
    assert 1 <= caplog.text.count("no_task_ended what='a check'") <= 3
    assert "2 run or wait for a CPU, number 0 for " in caplog.text
