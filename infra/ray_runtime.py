"""What a Ray that is up has, what its nodes answer, and the errors that crossed it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from infra.errors import ProjectError, RecipeError, ServiceError

Result = TypeVar("Result")

LOCAL: Final = "local"
NODE_ANSWER_S: Final = 45.0


@dataclass(frozen=True, slots=True)
class Node:
    """What one machine of a cluster offers."""

    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class Resources:
    """What a cluster has."""

    nodes: tuple[Node, ...]
    """Those that are alive, with or without CPUs."""
    memory_bytes: float
    """Ray's, of all nodes together."""
    shared: bool = False
    """Whether it was joined: others may work there too."""

    @property
    def cpus(self) -> float:
        """Of all nodes together."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """Of all nodes together."""
        return sum(node.gpus for node in self.nodes)


def cluster_address() -> str:
    """Return what RAY_ADDRESS names, such as 10.0.0.1:6379 or auto; LOCAL when it names nothing.

    Raises:
        RecipeError: it names Ray Client or the dashboard.
    """
    address = os.environ.get("RAY_ADDRESS") or LOCAL
    if address.startswith("ray://"):
        raise RecipeError(
            f"RAY_ADDRESS is {address}: through Ray Client the work would not be where the data is",
            remedy="submit the command as a job (`ray job submit`), or run it on a node of the"
            " cluster with RAY_ADDRESS=auto",
        )
    if "://" in address:
        raise RecipeError(
            f"RAY_ADDRESS is {address}, where jobs are submitted; a cluster is joined elsewhere",
            remedy=f"RAY_ADDRESS={address} ray job submit --working-dir . -- alexnet …; or unset"
            " it to run on this machine",
        )
    return address


def is_submitted_job() -> bool:
    """Tell whether this process was started by `ray job submit`."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def cluster_resources() -> Resources:
    """Look at what the cluster has now; Ray must be up."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Resources(
        nodes=tuple(Node(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in alive),
        memory_bytes=ray.cluster_resources().get("memory", 0.0),
        shared=cluster_address() != LOCAL,
    )


def free_gpus() -> int:
    """Count the GPUs of the cluster that nobody has booked."""
    import ray

    return int(ray.available_resources().get("GPU", 0))


def this_nodes_cpus() -> float:
    """Return the CPUs that the node of this task or actor offers in all."""
    return _this_nodes("CPU")


def this_nodes_gpus() -> float:
    """Return the GPUs that the node of this task or actor offers in all."""
    return _this_nodes("GPU")


def this_nodes_store_bytes() -> float:
    """Return the size of the object store of the node of this task or actor."""
    return _this_nodes("object_store_memory")


def _this_nodes(resource: str) -> float:
    import ray

    here = ray.get_runtime_context().get_node_id()
    found = [node["Resources"] for node in ray.nodes() if node["NodeID"] == here]
    return float(found[0].get(resource, 0.0)) if found else 0.0


def on_every_node(
    work: Callable[..., Result], *arguments: object, timeout_s: float = NODE_ANSWER_S
) -> list[tuple[str, Result | Exception]]:
    """Run a function once on every node of the cluster, all at the same time; no CPU is booked.

    Returns:
        For each node its address, and what the function returned there or the error that came
        instead: ours as it was, a TimeoutError for a node that did not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(work)
    running = [
        (
            node["NodeManagerAddress"],
            task.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(*arguments),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    references = [reference for _, reference in running]
    answered, _ = ray.wait(references, num_returns=len(references), timeout=timeout_s)
    results: list[tuple[str, Result | Exception]] = []
    for address, reference in running:
        if reference not in answered:
            results.append((address, TimeoutError(f"no answer within {timeout_s:g} s")))
            continue
        try:
            results.append((address, ray.get(reference)))
        except ray.exceptions.RayError as error:
            results.append((address, project_error_in(error) or error))
    return results


@contextmanager
def lost_work_named(what: str, remedy: str) -> Iterator[None]:
    """Say what Ray's errors in the block mean: our own error, or work that was lost for good.

    Raises:
        ProjectError: the deliberate one that a task or actor raised.
        ServiceError: "`what` kept dying", when processes ended under it.
        RayTaskError: as it is, for a bug.
    """
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        deliberate = project_error_in(error)
        if deliberate is not None:
            raise deliberate from error
        if isinstance(error, ray.exceptions.RayTaskError):
            raise
        raise ServiceError(f"{what} kept dying: {error}", remedy=remedy) from error


def project_error_in(error: BaseException) -> ProjectError | None:
    """Find the deliberate error that a Ray task or actor raised, inside what Ray raised for it."""
    seen: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or current in seen:
            continue
        if isinstance(current, ProjectError) and not hasattr(current, "cause"):
            return current
        seen.append(current)
        pending += [getattr(current, "cause", None), current.__cause__, current.__context__]
        pending += list(getattr(current, "worker_failures", {}).values())
    return None
