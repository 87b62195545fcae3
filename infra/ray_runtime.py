"""Start Ray on this machine or join the cluster that is there; read errors that crossed it."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from infra.errors import ProjectError, RecipeError, ServiceError

Result = TypeVar("Result")

LOCAL: Final = "local"
CONNECT_S: Final = 10.0
NODE_ANSWER_S: Final = 45.0

_SETTINGS: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # Train's defaults suit clusters of minutes: a lost worker would go unnoticed for seconds.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",
}
_LOCAL_SETTINGS: Final = {
    # A local instance needs no token; a file left by another Ray would switch tokens on.
    "RAY_AUTH_MODE": "disabled",
    # Ray calls our code in threads, and glibc gives a thread's big tensors back to the kernel each
    # time, unless all threads share the main heap (`alexnet/train/allocator.py`).
    "MALLOC_ARENA_MAX": "1",
}
# One try to reach a cluster: with Ray's twenty, an address where nobody answers takes minutes. Not
# for a local start, where the same setting is the time that a new server has to come up.
_CLUSTER_SETTINGS: Final = {"RAY_gcs_server_port_wait_time_s": "1"}


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


@contextmanager
def ray_session() -> Iterator[Resources]:
    """Join the cluster of `RAY_ADDRESS` (a submitted job has it), else start Ray here.

    A Ray that was started here ends with the block; one that was joined stays. Inside another
    session this changes nothing.

    Raises:
        RecipeError: RAY_ADDRESS is no address that a program can join a cluster at.
        ServiceError: the cluster there cannot be joined.
    """
    import ray

    if ray.is_initialized():
        yield cluster_resources()
        return
    address = cluster_address()
    settings = _SETTINGS | (_LOCAL_SETTINGS if address == LOCAL else _CLUSTER_SETTINGS)
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    _start(address)
    try:
        yield cluster_resources()
    finally:
        ray.shutdown()


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


def _start(address: str) -> None:
    import ray

    if ":" in address:
        _check_listening(address)
    try:
        with _signals_kept():
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level="ERROR",
                configure_logging=False,
                **({"include_dashboard": False} if address == LOCAL else {}),
            )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reasons = f"{error} {error.__cause__ or ''}"
        if "AuthToken" in reasons or "Authentication" in reasons:
            raise ServiceError(
                f"Ray at {address!r} refuses our token",
                remedy="set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the"
                " cluster's",
            ) from error
        raise ServiceError(
            f"Ray at {address!r} cannot be reached: {error}", remedy=_REACH_RAY
        ) from error
    except OSError as error:
        folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
        raise ServiceError(
            f"Ray cannot keep its files and sockets in {folder}: {error}",
            remedy="set RAY_TMPDIR to a short folder with room, such as /tmp",
        ) from error
    except Exception as error:
        # A bare one is Ray's way to say that it was not up within half a minute.
        if type(error) is not Exception:
            raise
        raise ServiceError(
            f"Ray did not start: {error}",
            remedy="wait until this machine has less to do, then run the same command again",
        ) from error


_REACH_RAY: Final = (
    "start it with `ray start --head`, mend RAY_ADDRESS, or unset it to run on this machine"
)


def _check_listening(address: str) -> None:
    """Say at once that nobody listens; Ray by itself takes most of a minute."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ServiceError(
            f"Ray at {address!r} cannot be reached: {error}", remedy=_REACH_RAY
        ) from error


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Undo what Ray does to SIGTERM: it would print a stack and end the process by itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as stopped:  # Ray's own handler, while it starts
        raise KeyboardInterrupt from stopped
    finally:
        signal.signal(signal.SIGTERM, handler)


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
