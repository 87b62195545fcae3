import time
from pathlib import Path

import pytest

from infra import ray_tasks
from infra.errors import ServiceError
from infra.ray_runtime import Node, Resources
from infra.ray_tasks import run_tasks

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


@pytest.mark.parametrize("cpus", [0.0, 1.0])
def test_only_where_no_node_can_hold_one_they_are_not_waited_for(
    cpus: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait_for(gate: Path, number: int) -> int:
        while not gate.exists():
            time.sleep(0.05)
        return number

    looks = iter(range(6))

    def cluster() -> Resources:
        if next(looks, None) is None:
            (tmp_path / "gate").touch()
        return Resources((Node(0.0, 0.0), Node(cpus, 0.0)), 0.0)

    monkeypatch.setattr(ray_tasks, "cluster_resources", cluster)
    monkeypatch.setattr(ray_tasks, "ROOM_S", 0.1)
    monkeypatch.setattr(ray_tasks, "LOOK_S", 0.1)
    tasks = run_tasks(wait_for, tmp_path / "gate", [7], what="a check", parallelism=None, remedy="")
    if cpus:
        assert list(tasks) == [7]
        return
    with pytest.raises(ServiceError, match="has the 1 CPU that a check needs") as caught:
        list(tasks)
    assert "ray status" in caught.value.remedy
    (tmp_path / "gate").touch()
