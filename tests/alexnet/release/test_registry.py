"""What the registry does with versions is tested with what uses it, in test_register.py."""

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from alexnet.release import registry
from alexnet.release.registry import ModelRegistry
from infra.errors import TrackingError
from infra.tracking.mlflow_quiet import import_mlflow
from infra.tracking.place import TrackingPlace


@pytest.fixture
def silent_uri(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that takes connections and never answers."""
    monkeypatch.setattr(registry, "READ_S", 0.2)
    # The call that is given up lives on in its thread for as long.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "8")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    import_mlflow()  # takes seconds of its own
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    "ask",
    [
        ModelRegistry.champion,
        lambda of: of.by_version("1"),
        lambda of: of.aliases("1"),
        lambda of: of.find("key"),
    ],
    ids=["champion", "by_version", "aliases", "find"],
)
def test_a_server_that_never_answers_is_not_waited_for_for_long(
    silent_uri: str, ask: Callable[[ModelRegistry], Any]
) -> None:
    of = ModelRegistry(silent_uri, "alexnet")
    started = time.monotonic()
    with pytest.raises(TrackingError, match=r"failed: no answer within 0\.2 s"):
        ask(of)
    assert time.monotonic() - started < 4


def test_an_alias_that_reads_otherwise_was_set_by_someone_else(
    mlflow_place: TrackingPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ModelRegistry(mlflow_place.uri, "alexnet")
    ours.registry_id()
    for _ in range(2):
        ours._client.create_model_version("alexnet", source="file:///model")
    ours.set_alias("champion", "1")

    set_it = ours._client.set_registered_model_alias

    def overtaken(name: str, alias: str, version: str) -> None:
        set_it(name, alias, version)
        set_it(name, alias, "1")

    monkeypatch.setattr(ours._client, "set_registered_model_alias", overtaken)
    with pytest.raises(TrackingError, match="was set to version 2 and reads 1"):
        ours.set_alias("champion", "2")
