"""How a cluster's CPUs and GPUs are shared between the workers and the tasks that read. Pure."""

import math
from dataclasses import dataclass
from typing import Final

from alexnet.settings import WorkerRange
from infra.errors import ClusterTooSmall
from infra.ray_runtime import Resources

MIN_CPU_SHARE: Final = 0.1
"""Below a tenth of a CPU a worker and its loader wait for each other for ever."""
MIN_MEMORY_BYTES: Final = 1 << 30
TASK_CPUS: Final = 0.66
"""What a reading task books: it idles between ticks, so that more than one fits a core."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What each worker and each of its reading tasks may use."""

    workers: int
    use_gpu: bool
    cpus_per_worker: float
    threads_per_worker: int
    cpus_per_task: float
    tasks_per_worker: int


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
            f" {resources.memory_bytes / 2**30:.0f} GiB in {resources.num_nodes} node(s))",
            remedy=f"set scaling.workers to at most {max(capacity, 1)}, or use a larger cluster",
        )
    return _shares(resources, min(high, capacity))


def _capacity(resources: Resources) -> int:
    """Count workers: one a GPU, or at least MIN_CPU_SHARE each of half the CPUs."""
    by_memory = int(resources.memory_bytes // MIN_MEMORY_BYTES)
    by_cpu = int(resources.cpus / 2 / MIN_CPU_SHARE)
    return min(by_memory, by_cpu, int(resources.gpus) if resources.gpus >= 1 else by_cpu)


def _shares(resources: Resources, workers: int) -> Placement:
    use_gpu = resources.gpus >= 1
    share = _rounded_down(min(1.0 if use_gpu else 0.5, resources.cpus / 2 / workers))
    left_per_worker = resources.cpus / workers - share
    tasks = max(1, int(left_per_worker / TASK_CPUS))
    return Placement(
        workers=workers,
        use_gpu=use_gpu,
        cpus_per_worker=share,
        threads_per_worker=max(1, int(resources.cpus // workers)),
        cpus_per_task=_rounded_down(min(1.0, left_per_worker / tasks)),
        tasks_per_worker=tasks,
    )


def _rounded_down(cpus: float) -> float:
    return math.floor(cpus * 100) / 100
