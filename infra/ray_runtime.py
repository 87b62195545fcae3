"""Start Ray on this machine or join the cluster that is there; read errors that crossed it."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from infra.errors import ProjectError, ServiceError

_QUIET: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # A local instance needs no token; a file left by another Ray would switch tokens on.
    "RAY_AUTH_MODE": "disabled",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # Train's defaults suit clusters of minutes: a lost worker would go unnoticed for seconds.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",
}


@dataclass(frozen=True, slots=True)
class Resources:
    """What a cluster has in all."""

    cpus: float
    gpus: float
    memory_bytes: float
    num_nodes: int


@contextmanager
def ray_session() -> Iterator[Resources]:
    """Join the cluster of `RAY_ADDRESS` (a submitted job has it), else start Ray here.

    A Ray that was started here ends with the block; one that was joined stays. Inside another
    session this changes nothing.

    Raises:
        ServiceError: the cluster at RAY_ADDRESS cannot be joined.
    """
    import ray

    if ray.is_initialized():
        yield cluster_resources()
        return
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    address = os.environ.get("RAY_ADDRESS", "local")
    try:
        with _signals_kept():
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level="ERROR",
                configure_logging=False,
                **({"include_dashboard": False} if address == "local" else {}),
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ServiceError(
            f"Ray at {address!r} cannot be reached: {error}",
            remedy="start it with `ray start --head`, or unset RAY_ADDRESS to run on this machine",
        ) from error
    try:
        yield cluster_resources()
    finally:
        ray.shutdown()


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
    """Sum what the cluster has now; Ray must be up."""
    import ray

    total = ray.cluster_resources()
    return Resources(
        cpus=total.get("CPU", 0.0),
        gpus=total.get("GPU", 0.0),
        memory_bytes=total.get("memory", 0.0),
        num_nodes=sum(1 for node in ray.nodes() if node["Alive"]),
    )


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
