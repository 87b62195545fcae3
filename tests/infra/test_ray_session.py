import json
import os
import subprocess
import sys
from typing import Any

import pytest
import ray

from infra.errors import ServiceError
from infra.ray_runtime import LOCAL, Resources
from infra.ray_session import _agent_on_any_port, _settings_of, _start, ray_session


@pytest.mark.parametrize("address", ["127.0.0.1:9", "127.0.0.1:http", "no-such-host.invalid:1"])
def test_an_address_where_nobody_listens_is_told_at_once(address: str) -> None:
    with pytest.raises(ServiceError, match="cannot be reached"):
        _start(address)


def test_a_machine_too_busy_to_start_ray_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray does

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ServiceError, match="timed out during startup") as caught:
        _start(LOCAL)
    assert "less to do" in caught.value.remedy


def test_a_folder_that_rays_sockets_do_not_fit_into_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def init(**_: object) -> None:
        raise OSError("AF_UNIX path length cannot exceed 107 bytes")  # as Ray does

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_TMPDIR", "/a/long/folder")
    with pytest.raises(ServiceError, match="/a/long/folder: AF_UNIX path") as caught:
        _start(LOCAL)
    assert "set RAY_TMPDIR to a short folder" in caught.value.remedy


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError("no room")])
def test_a_start_that_is_stopped_leaves_no_ray(
    monkeypatch: pytest.MonkeyPatch, stop: type[BaseException] | BaseException
) -> None:
    """In a notebook a node that runs would stay; one that is stopped earlier Ray does not know."""
    processes: list[str] = []

    def init(**_: object) -> None:
        processes.append("gcs_server")
        raise stop

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("infra.ray_session._read_token_anew", lambda: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", processes.clear)
    with pytest.raises((KeyboardInterrupt, ServiceError)), ray_session():
        pass
    assert not processes


_IN_TWO_SESSIONS = """
import json, os
import ray
from infra.ray_session import ray_session

def look():
    return "RAY_AUTH_TOKEN" in os.environ, os.environ.get("RAY_AUTH_MODE")

before, seen = look(), []
for _ in range(2):
    with ray_session():
        seen.append(ray.get(ray.remote(look).remote()))
print(json.dumps({"before": before, "seen": seen, "after": look()}))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_each_local_ray_has_a_token_of_its_own_and_leaves_none() -> None:
    """One after the other in one process, as in a notebook."""
    told = json.loads(_run(_IN_TWO_SESSIONS, _without_ray()).stdout)
    assert told == {"before": [False, None], "seen": [[True, "token"]] * 2, "after": [False, None]}


_JOIN = """
import ray, sys
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
except Exception as error:
    print(type(error).__name__, error)
else:
    print("joined")
"""


@pytest.mark.ray
@pytest.mark.slow
def test_who_lacks_the_token_of_a_local_ray_cannot_join_it(ray_local: Resources) -> None:
    """It listens on the address of the host."""
    address = ray.get_runtime_context().gcs_address
    token = {name: os.environ[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    assert _run(_JOIN, _without_ray() | token, address).stdout.strip() == "joined"
    for other in ({"RAY_AUTH_MODE": "disabled"}, token | {"RAY_AUTH_TOKEN": "0" * 64}):
        assert "joined" not in _run(_JOIN, _without_ray() | other, address).stdout


def _without_ray() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def _run(
    program: str, environment: dict[str, str], *arguments: str
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_what_the_user_set_for_ray_stays_and_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.ray_session._read_token_anew", lambda: None)
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    before = dict(os.environ)
    with _settings_of(LOCAL):
        assert os.environ["RAY_AUTH_TOKEN"] == "mine"
        assert os.environ["RAY_AUTH_MODE"] == "disabled"
        assert os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] == "0"
    assert dict(os.environ) == before
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    with _settings_of("10.0.0.1:6379"):  # where the cluster's token counts, or none
        assert "RAY_AUTH_TOKEN" not in os.environ
        assert "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER" not in os.environ


def test_the_agent_of_a_local_node_takes_any_port() -> None:
    """Ray's one port costs a start of three seconds more where another Ray has it."""
    parameter: Any = ray._private.parameter
    own = parameter.RayParams().dashboard_agent_listen_port
    with _agent_on_any_port():
        assert parameter.RayParams(num_cpus=2).dashboard_agent_listen_port == 0
    assert parameter.RayParams().dashboard_agent_listen_port == own != 0
