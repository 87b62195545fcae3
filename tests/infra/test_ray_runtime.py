import os
import time
from pathlib import Path

import pytest
import ray

from alexnet.train.process_group import use_the_nodes_interface
from infra.errors import ObjectCorrupt, RecipeError, ServiceError, StoreError
from infra.nodes import check_nodes_see, check_nodes_share
from infra.ray_runtime import (
    LOCAL,
    Resources,
    _start,
    cluster_address,
    on_every_node,
    this_nodes_cpus,
)
from infra.store import FolderStore


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "head.example.org:6379"])
def test_an_address_to_join_is_taken_as_it_is(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert cluster_address() == address


def test_without_an_address_ray_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster_address() == LOCAL
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert cluster_address() == LOCAL


@pytest.mark.parametrize("address", ["ray://head:10001", "http://head:8265", "https://head"])
def test_an_address_for_clients_and_jobs_is_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(RecipeError, match=address) as caught:
        cluster_address()
    assert "ray job submit" in caught.value.remedy


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


def _greet(name: str) -> str:
    return f"hello {name}"


def _stay_away() -> None:
    time.sleep(5)


def _fail_on_purpose() -> None:
    raise ObjectCorrupt("bytes are others", remedy="restore them")


def _fail() -> None:
    raise KeyError("a bug")


def test_every_node_does_the_work(ray_local: Resources) -> None:
    answers = [answer for _, answer in on_every_node(_greet, "node")]
    assert answers == ["hello node"] * len(ray_local.nodes)


def test_what_goes_wrong_on_a_node_is_told_and_ours_as_it_was(ray_local: Resources) -> None:
    ((_, ours),) = on_every_node(_fail_on_purpose)
    assert isinstance(ours, ObjectCorrupt)
    assert ours.remedy == "restore them"
    ((_, other),) = on_every_node(_fail)
    assert isinstance(other, KeyError)


def test_a_node_knows_its_cpus(ray_local: Resources) -> None:
    assert on_every_node(this_nodes_cpus)[0][1] == ray_local.nodes[0].cpus


def test_a_node_that_does_not_answer_is_not_waited_for_long(ray_local: Resources) -> None:
    ((_, silent),) = on_every_node(_stay_away, timeout_s=0.5)
    assert isinstance(silent, TimeoutError)
    assert "0.5 s" in str(silent)


@pytest.mark.usefixtures("ray_local")
def test_nodes_that_see_the_workspace_pass_and_leave_no_trace(workspace: FolderStore) -> None:
    check_nodes_share(workspace)
    assert list(Path(workspace.uri).iterdir()) == []


@pytest.mark.usefixtures("ray_local")
def test_a_node_that_does_not_see_an_object_is_named(workspace: FolderStore) -> None:
    with pytest.raises(StoreError, match=r"node [\d.]+ does not see .*/archive\.tar"):
        check_nodes_see(workspace, "archive.tar")


@pytest.mark.usefixtures("ray_local")
def test_workers_use_the_interface_of_their_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")  # what is set stays
    use_the_nodes_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"]
    assert os.environ["NCCL_SOCKET_IFNAME"] == "ib0"
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
