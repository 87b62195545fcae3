"""Work of any kind on a list of items, a Ray task each. Ray is up already.

What Ray books and how many tasks run at a time never changes what comes out.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from infra.errors import ServiceError
from infra.ray_runtime import cluster_resources, lost_work_named

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")

ROOM_S: Final = 300.0
"""How long tasks wait for a node that can hold one; a lost node is back, or replaced, by then."""
LOOK_S: Final = 10.0


def run_tasks(
    work: Callable[[Shared, Item], Result],
    shared: Shared,
    items: Sequence[Item],
    *,
    what: str,
    parallelism: int | None,
    remedy: str,
) -> Iterator[Result]:
    """Yield `work(shared, item)` of each item as tasks finish, in any order; few are in flight.

    Args:
        what: one task's name, for the error when it dies.
        parallelism: tasks at a time; None: as many as the cluster has CPUs.
        remedy: what to do when tasks keep dying.

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
            yield _result(finished[0], what, remedy)
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


def _result(reference: Any, what: str, remedy: str) -> Any:  # noqa: ANN401 - Ray ships no types
    import ray

    with lost_work_named(what, remedy=remedy):
        return ray.get(reference)
