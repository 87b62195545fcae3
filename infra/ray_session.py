"""Start Ray on this machine, or join the cluster that is there; the environment that it reads."""

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from inspect import signature
from typing import Any, Final

from infra.errors import ServiceError
from infra.ray_runtime import LOCAL, Resources, cluster_address, cluster_resources

CONNECT_S: Final = 10.0

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
    # Ray calls our code in threads, and glibc gives a thread's big tensors back to the kernel each
    # time, unless all threads share the main heap (`infra/allocator.py`).
    "MALLOC_ARENA_MAX": "1",
    # It asks every few seconds whether a cloud takes this machine away: one process less to start.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
# One try to reach a cluster: with Ray's twenty, an address where nobody answers takes minutes. Not
# for a local start, where the same setting is the time that a new server has to come up.
_CLUSTER_SETTINGS: Final = {"RAY_gcs_server_port_wait_time_s": "1"}


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
    with _settings_of(address):
        try:
            _start(address)  # inside: one that is stopped while it connects leaves a node that runs
            yield cluster_resources()
        finally:
            ray.shutdown()


@contextmanager
def _settings_of(address: str) -> Iterator[None]:
    """Set in the environment what Ray's processes shall read there; what the user set stays."""
    settings: dict[str, str] = _SETTINGS | _CLUSTER_SETTINGS
    if address == LOCAL:
        # A node listens on the host's address, and whoever reaches it may run what they like. Ray
        # asks all for a token where no mode is set, and takes one from a file in the home directory
        # or writes it there; this one is known to this run's own processes only.
        settings = _SETTINGS | _LOCAL_SETTINGS | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    before = dict(os.environ)
    os.environ.update(settings | before)
    _read_token_anew()
    try:
        yield
    finally:
        # Ray has set the mode: a cluster that is joined next may have another, or none.
        for name in {*settings, "RAY_AUTH_MODE"} - before.keys():
            os.environ.pop(name, None)
        _read_token_anew()


def _read_token_anew() -> None:
    """Have this process's Ray forget the token and the mode that it read in the environment."""
    from ray import _raylet

    raylet: Any = _raylet  # its types lack both
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


def _start(address: str) -> None:
    import ray

    if ":" in address:
        _check_listening(address)
    try:
        with _signals_kept(), _agent_on_any_port():
            # It warns that a local Ray asks for the token, which nobody has to know.
            logging.getLogger(_TELLS_OF_TOKENS).setLevel(logging.ERROR)
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


_TELLS_OF_TOKENS: Final = "ray._private.authentication.authentication_token_setup"
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
def _agent_on_any_port() -> Iterator[None]:
    """Let a local node's agent take any free port; `ray.init` has no argument for it.

    Its default is one port, for which the agent waits more than three seconds where another Ray of
    this machine has it, before it goes on without.
    """
    from ray._private import parameter

    every_ray = parameter.RayParams
    if _AGENT_PORT in signature(every_ray).parameters:
        parameter.RayParams = partial(every_ray, **{_AGENT_PORT: 0})
    try:
        yield
    finally:
        parameter.RayParams = every_ray


_AGENT_PORT: Final = "dashboard_agent_listen_port"


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
