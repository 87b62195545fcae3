"""How a cluster's CPUs and GPUs are shared between the workers and the tasks that read. Pure."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from alexnet.settings import WorkerRange
from infra.errors import ClusterTooSmall, ServiceError
from infra.ray_runtime import Node, Resources

MIN_CPU_SHARE: Final = 0.1
"""Below a tenth of a CPU a worker and its loader wait for each other for ever."""
MIN_MEMORY_BYTES: Final = 1 << 30
READERS_SHARE: Final = 0.33
"""Nodes without a GPU read for the others only if they have at least this share of the cluster's
CPUs. A small head node has less: moving all pixels between nodes would cost more than its CPUs
give."""
TASK_CPUS: Final = 0.66
"""What a reading task books at most: idle between ticks, more than one of them fits a core."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What each worker and each of its reading tasks may use."""

    workers: int
    use_gpu: bool
    cpus_per_worker: float
    threads_per_worker: int
    cpus_per_task: float
    tasks_per_worker: int
    strategy: Literal["PACK", "SPREAD"]
    """Close together, for their links; or on as many nodes as there are, for their CPUs."""
    reads_at_home: bool
    """Whether a worker's reading tasks stay on its node: decoded pixels are eight times as large as
    stored ones. Not where nodes without a GPU are there to read for those that have one."""


def place_workers(resources: Resources, workers: int | WorkerRange) -> Placement:
    """Share out the cluster; as many workers as it holds when a range is given.

    Raises:
        ClusterTooSmall: it does not hold them; says how many it would.
    """
    low, high = (workers, workers) if isinstance(workers, int) else (workers.min, workers.max)
    capacity = _capacity(resources)
    if capacity < low:
        raise ClusterTooSmall(
            f"scaling.workers asks for {low} workers; this cluster holds {capacity}"
            f" ({resources.cpus:g} CPUs, {resources.gpus:g} GPUs,"
            f" {resources.memory_bytes / 2**30:.0f} GiB in {len(resources.nodes)} node(s))",
            remedy=f"set scaling.workers to at most {max(capacity, 1)}, or use a larger cluster",
        )
    return _shares(resources, min(high, capacity))


def check_gpus(
    placement: Placement, wanted: Literal["auto", "required", "optional"], *, began_on_gpus: bool
) -> None:
    """Refuse to train without GPUs where they are wanted: days would become months, unnoticed.

    Raises:
        ServiceError: there is none.
    """
    if placement.use_gpu or wanted == "optional" or (wanted == "auto" and not began_on_gpus):
        return
    why = "scaling.gpu is required" if wanted == "required" else "this training began on GPUs"
    raise ServiceError(
        f"{why}, and there is no GPU here",
        remedy="bring the nodes with GPUs back (a driver or a container without them hides them,"
        " too), then run again; or set scaling.gpu to optional, which is in no key, to go on with"
        " CPUs",
    )


def has_room(
    placement: Placement, *, workers_here: int, node_cpus: float, cluster_cpus: float
) -> bool:
    """Tell whether so many workers of a placement have room with a reading task each.

    False after a lost node in two cases: its workers were packed onto another node, whose CPUs
    their reading tasks then lack; or it was a reading node, and the workers hold every CPU that is
    left.
    """
    workers, cpus = workers_here, node_cpus
    if not placement.reads_at_home:
        workers, cpus = placement.workers, cluster_cpus
    return workers * (placement.cpus_per_worker + placement.cpus_per_task) <= cpus + 1e-6


def _capacity(resources: Resources) -> int:
    """Count workers: one a GPU, or at least MIN_CPU_SHARE each of half the CPUs."""
    by_memory = int(resources.memory_bytes // MIN_MEMORY_BYTES)
    if resources.gpus >= 1:
        by_cpu = int(resources.cpus / 2 / MIN_CPU_SHARE)
        return min(by_memory, by_cpu, int(resources.gpus))
    hosts = _hosts(resources)
    smallest = min((node.cpus for node in hosts), default=0.0)
    return min(by_memory, len(hosts) * int(smallest / 2 / MIN_CPU_SHARE))


def _hosts(resources: Resources) -> list[Node]:
    """Return the nodes that workers run on."""
    if resources.gpus >= 1:
        return [node for node in resources.nodes if node.gpus >= 1]
    return [node for node in resources.nodes if node.cpus > 0]


def _shares(resources: Resources, workers: int) -> Placement:
    use_gpu = resources.gpus >= 1
    has_readers = use_gpu and _cpus_without_gpu(resources) >= READERS_SHARE * resources.cpus
    sharers = int(resources.gpus) if resources.shared else workers
    budget = resources.cpus / sharers if has_readers else _cpus_at_home(resources, workers)
    share = _rounded_down(min(1.0 if use_gpu else 0.5, budget / 2))
    # Rounded up: a slot idles a part of the time whatever it books.
    tasks = max(1, math.ceil((budget - share) / TASK_CPUS))
    return Placement(
        workers=workers,
        use_gpu=use_gpu,
        cpus_per_worker=share,
        threads_per_worker=max(1, int(budget)),
        cpus_per_task=_rounded_down(min(1.0, (budget - share) / tasks)),
        tasks_per_worker=tasks,
        strategy="PACK" if use_gpu else "SPREAD",
        reads_at_home=not has_readers,
    )


def _cpus_without_gpu(resources: Resources) -> float:
    return sum(node.cpus for node in resources.nodes if node.gpus < 1)


def _cpus_at_home(resources: Resources, workers: int) -> float:
    """CPUs of its node that a worker and its reading tasks have to themselves, at the least."""
    hosts = _hosts(resources)
    if resources.gpus >= 1:
        # Whoever works on a shared node's other GPUs needs the CPUs that belong to them.
        most = int(resources.gpus) if resources.shared else workers
        return min(node.cpus / min(most, int(node.gpus)) for node in hosts)
    return min(node.cpus for node in hosts) / math.ceil(workers / len(hosts))


def _rounded_down(cpus: float) -> float:
    # A hair is added: 1.1 / 10 is less than 0.11 in binary.
    return math.floor(cpus * 100 + 1e-9) / 100
