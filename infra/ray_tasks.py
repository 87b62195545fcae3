"""Work of any kind on a list of items, a Ray task each. Ray is up already.

What Ray books and how many tasks run at a time never changes what comes out.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, Generic, TypeVar

from infra.cpu_shares import plan_cpus
from infra.errors import ServiceError
from infra.ray_runtime import cluster_resources, lost_work_named
from infra.retry import Retried, note_retried, retried_so_far

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")

ROOM_S: Final = 300.0
"""How long tasks wait for a node that can hold one; a lost node is back, or replaced, by then."""
LOOK_S: Final = 10.0
"""How often the cluster is looked at: has it room, has it grown."""
QUIET_S: Final = 60.0
"""When none has ended for so long, and for twice the longest one so far, it is said why."""
BEYOND_CPUS: Final = 2
"""Tasks that wait for a CPU: an autoscaler goes by them, and one is at hand when another ends."""

log = logging.getLogger(__name__)


def run_tasks(
    work: Callable[[Shared, Item], Result],
    shared: Shared,
    items: Sequence[Item],
    *,
    what: str,
    name_of: Callable[[Item], str],
    parallelism: int | None,
    remedy: str,
    cpus: Sequence[int] | None = None,
    with_cpus: Callable[[Shared, int], Shared] | None = None,
) -> Iterator[Result]:
    """Yield `work(shared, item)` of each item as tasks finish, in any order; few are in flight.

    Args:
        what: one task's name, for people.
        name_of: names an item, for people.
        parallelism: tasks at a time, one that books several CPUs counting for so many; None: as
            many as the cluster has CPUs, also when it grows.
        remedy: what to do when a task keeps dying.
        cpus: what each item's task books, from `cpus_for_each`; None: one.
        with_cpus: makes of `shared` what a task with so many CPUs is given.

    Raises:
        ProjectError: whatever deliberate error a task ended with.
        ServiceError: a task kept dying, or no node has been able to hold one for ROOM_S.
    """
    import ray

    cpus = cpus or [1] * len(items)
    of = {each: ray.put(with_cpus(shared, each) if with_cpus else shared) for each in {*cpus}}
    tasks = _Tasks(work, of, list(zip(items, cpus, strict=True)), what, parallelism)
    # What still runs when the caller stops early is not cancelled: Ray 2.60 ends this process when
    # a task finishes just then ("Tried to complete task that was not pending"; 3 of 12 interrupts).
    # It writes whole objects that the next run takes up, or ends with this process.
    while tasks.submit():
        finished = tasks.wait()
        if finished is None:
            tasks.say_if_quiet(name_of)
            continue
        with lost_work_named(f"{what} ({name_of(tasks.take(finished))})", remedy):
            result, retried = ray.get(finished)
        # Before the caller is at it: a CPU is free.
        tasks.submit()
        note_retried(retried)
        yield result


def cpus_for_each(sizes: Sequence[int], parallelism: int | None) -> list[int]:
    """Return how many CPUs each of some tasks should book, so that few are idle.

    One in a cluster that others use too: there it is easier to find one CPU at a time.

    Args:
        sizes: of each task's work, the largest first.
        parallelism: as in `run_tasks`.
    """
    resources = cluster_resources()
    if resources.shared:
        return [1] * len(sizes)
    cpus = max(1, int(resources.cpus))
    return plan_cpus(sizes, min(parallelism or cpus, cpus))


@dataclass(frozen=True, slots=True)
class _Submitted(Generic[Item]):
    item: Item
    cpus: int
    at_s: float
    """By the monotonic clock."""


class _Tasks(Generic[Shared, Item, Result]):
    """The tasks that were submitted and did not end, oldest first, and the items still to come."""

    def __init__(
        self,
        work: Callable[[Shared, Item], Result],
        shared: Mapping[int, Any],
        items: Sequence[tuple[Item, int]],
        what: str,
        parallelism: int | None,
    ) -> None:
        import ray

        self._what, self._shared = what, shared
        resources = cluster_resources()
        self._cpus = max(1, int(resources.cpus))
        # A machine of one's own keeps its CPUs: they bound what runs, whatever waits.
        is_whole = parallelism == self._cpus and not resources.shared
        self._at_most = None if is_whole else parallelism
        # Half of one where more are to run at a time than there are CPUs.
        self._one_cpu = 1 if (parallelism or 1) <= self._cpus else 0.5
        self._task = ray.remote(_counted(work))
        self._waiting = deque(items)
        self._submitted: dict[Any, _Submitted[Item]] = {}
        self._submitted_cpus = 0
        self._looked_s = self._room_s = self._ended_s = time.monotonic()
        self._longest_s, self._say_after_s = 0.0, QUIET_S

    def submit(self) -> int:
        """Submit as many as may be, by the CPUs they book; return how many did not end."""
        while self._waiting and self._has_room(self._waiting[0][1]):
            item, cpus = self._waiting.popleft()
            task = self._task.options(num_cpus=self._booked(cpus))
            reference = task.remote(self._shared[cpus], item)
            self._submitted[reference] = _Submitted(item, cpus, time.monotonic())
            self._submitted_cpus += cpus
        return len(self._submitted)

    def _has_room(self, cpus: int) -> bool:
        if self._at_most is None:
            return self._submitted_cpus < self._cpus + BEYOND_CPUS
        return self._submitted_cpus + cpus <= self._at_most

    def _booked(self, cpus: int) -> float:
        return cpus if cpus > 1 else self._one_cpu

    def wait(self) -> Any | None:  # noqa: ANN401
        """Return a task that ended; None when it is time to submit or to say something."""
        import ray

        ended, _ = ray.wait(list(self._submitted), num_returns=1, timeout=LOOK_S)
        now = time.monotonic()
        if ended:
            self._room_s = self._ended_s = now
        if now - self._looked_s >= LOOK_S:
            self._look(now)
        return ended[0] if ended else None

    def take(self, ended: Any) -> Item:  # noqa: ANN401
        """Forget a task that ended; return its item."""
        task = self._submitted.pop(ended)
        self._submitted_cpus -= task.cpus
        self._longest_s = max(self._longest_s, self._ended_s - task.at_s)
        self._say_after_s = max(QUIET_S, 2 * self._longest_s)
        return task.item

    def say_if_quiet(self, name_of: Callable[[Item], str]) -> None:
        """Warn when nothing has ended for long: CPUs may be booked by others, a node may hang."""
        now = time.monotonic()
        if now - self._ended_s < self._say_after_s:
            return
        self._say_after_s *= 2
        oldest = next(iter(self._submitted.values()))
        log.warning(
            "no_task_ended what=%r for_s=%.0f: %d run or wait for a CPU, %s for %.0f s;"
            " of %d CPUs %d are free (on a cluster see `ray status`)",
            self._what,
            now - self._ended_s,
            len(self._submitted),
            name_of(oldest.item),
            now - oldest.at_s,
            self._cpus,
            _free_cpus(),
        )

    def _look(self, now: float) -> None:
        """See whether the cluster has grown, and has room."""
        resources = cluster_resources()
        self._looked_s, self._cpus = now, max(1, int(resources.cpus))
        needed = self._booked(max(task.cpus for task in self._submitted.values()))
        if any(node.cpus >= needed for node in resources.nodes):
            self._room_s = now
        elif now - self._room_s > ROOM_S:
            # Ray would wait for ever: nodes may come back, and it says nothing.
            raise ServiceError(
                f"no node of the cluster has the {needed:g} CPU that {self._what} needs",
                remedy="bring nodes back (see `ray status`), then run again: it goes on",
            )


def _counted(
    work: Callable[[Shared, Item], Result],
) -> Callable[[Shared, Item], tuple[Result, Retried]]:
    """Have a task also return what it tried again: its process is not the caller's.

    Of a task that fails it is not known; its error says what stayed away.
    """

    @wraps(work)  # Ray titles the process by its name
    def counted(shared: Shared, item: Item) -> tuple[Result, Retried]:
        before = retried_so_far()
        result = work(shared, item)
        return result, retried_so_far() - before

    return counted


def _free_cpus() -> int:
    import ray

    return int(ray.available_resources().get("CPU", 0))
